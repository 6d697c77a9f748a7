"""A party that waits for approved jobs and runs them, and its page for people who do not type commands.

states      what is known of each job, in the home's database
turns       which of several jobs that wait all parties try at the same time
supervisor  one process for each run, started, watched, and started again
events      what happened, as JSON lines of a fixed set of fields
metrics     the same for Prometheus
page        the web page
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Events", "Guard", "Metrics", "Page", "Schedule", "State", "States", "Supervisor"]

if TYPE_CHECKING:
    from secagg.joint.serve.events import Events
    from secagg.joint.serve.guard import Guard
    from secagg.joint.serve.metrics import Metrics
    from secagg.joint.serve.page import Page
    from secagg.joint.serve.states import State, States
    from secagg.joint.serve.supervisor import Supervisor
    from secagg.joint.serve.turns import Schedule
else:
    __getattr__, __dir__ = face(
        "secagg.joint.serve",
        {
            "secagg.joint.serve.events": "Events",
            "secagg.joint.serve.guard": "Guard",
            "secagg.joint.serve.metrics": "Metrics",
            "secagg.joint.serve.page": "Page",
            "secagg.joint.serve.states": "State States",
            "secagg.joint.serve.supervisor": "Supervisor",
            "secagg.joint.serve.turns": "Schedule",
        },
    )
