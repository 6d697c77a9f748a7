"""Whose rows may enter a run, and how much the rows that enter tell of anybody.

lists       exclusion lists: identifiers, files or queries; rows of those who are on them never enter
population  keyed digests of the persons in a run, kept by their owner alone
guard       two runs on nearly the same persons, whose difference would tell of few
absence     what shows later that somebody was not in a run
anonymity   k-anonymity and l-diversity of the rows as they enter
policy      the owner's choices, in `privacy.toml` of the home folder
gate        all of these, in the order in which a run needs them
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["ConsentGate", "PrivacyPolicy"]

if TYPE_CHECKING:
    from secagg.joint.consent.gate import ConsentGate
    from secagg.joint.consent.policy import PrivacyPolicy
else:
    __getattr__, __dir__ = face(
        "secagg.joint.consent",
        {"secagg.joint.consent.gate": "ConsentGate", "secagg.joint.consent.policy": "PrivacyPolicy"},
    )
