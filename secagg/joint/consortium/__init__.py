"""Who takes part: members, addresses, certificates, roles, and who holds which table."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "Consortium",
    "MemberFile",
    "Needed",
    "Organisation",
    "directory_of",
    "own_identity",
    "read_member_file",
]

if TYPE_CHECKING:
    from secagg.joint.consortium.changes import own_identity
    from secagg.joint.consortium.consortium import Consortium, directory_of
    from secagg.joint.consortium.organisation import MemberFile, Needed, Organisation, read_member_file
else:
    __getattr__, __dir__ = face(
        "secagg.joint.consortium",
        {
            "secagg.joint.consortium.changes": "own_identity",
            "secagg.joint.consortium.consortium": "Consortium directory_of",
            "secagg.joint.consortium.organisation": "MemberFile Needed Organisation read_member_file",
        },
    )
