"""An organisation's audit log: what it computed with whom, in a chain that peers remember the head of."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["AuditGate", "AuditLog", "Bundle", "Finding", "compare_logs", "read_bundle", "verify_log"]

if TYPE_CHECKING:
    from secagg.joint.audit.bundle import Bundle, read_bundle
    from secagg.joint.audit.compare import Finding, compare_logs
    from secagg.joint.audit.gate import AuditGate
    from secagg.joint.audit.log import AuditLog
    from secagg.joint.audit.verification import verify_log
else:
    __getattr__, __dir__ = face(
        "secagg.joint.audit",
        {
            "secagg.joint.audit.bundle": "Bundle read_bundle",
            "secagg.joint.audit.compare": "Finding compare_logs",
            "secagg.joint.audit.gate": "AuditGate",
            "secagg.joint.audit.log": "AuditLog",
            "secagg.joint.audit.verification": "verify_log",
        },
    )
