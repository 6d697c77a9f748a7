"""What would keep a run from taking place, looked for before it: at this end, and at every peer that is up.

Nothing of a table leaves here. Peers learn this party's clock, release and digests of the job, as they do from its hello.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Finding", "look_at_peers", "look_here"]

if TYPE_CHECKING:
    from secagg.joint.preflight.findings import Finding
    from secagg.joint.preflight.here import look_here
    from secagg.joint.preflight.peers import look_at_peers
else:
    __getattr__, __dir__ = face(
        "secagg.joint.preflight",
        {
            "secagg.joint.preflight.findings": "Finding",
            "secagg.joint.preflight.here": "look_here",
            "secagg.joint.preflight.peers": "look_at_peers",
        },
    )
