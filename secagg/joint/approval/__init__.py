"""Who approved what: approvers' keys, an organisation's policy, and the gate that holds a run to them."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Approval", "ApprovalGate", "ApproverKey", "Policy", "Status", "approve", "open_key", "status_of"]

if TYPE_CHECKING:
    from secagg.joint.approval.approval import Approval
    from secagg.joint.approval.gate import ApprovalGate
    from secagg.joint.approval.keys import ApproverKey, open_key
    from secagg.joint.approval.policy import Policy
    from secagg.joint.approval.status import Status, approve, status_of
else:
    __getattr__, __dir__ = face(
        "secagg.joint.approval",
        {
            "secagg.joint.approval.approval": "Approval",
            "secagg.joint.approval.gate": "ApprovalGate",
            "secagg.joint.approval.keys": "ApproverKey open_key",
            "secagg.joint.approval.policy": "Policy",
            "secagg.joint.approval.status": "Status approve status_of",
        },
    )
