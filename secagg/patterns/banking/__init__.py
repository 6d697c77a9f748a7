"""Patterns for banks: what accounts and customers do at several of them."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "COLLECTORS",
    "CYCLES",
    "DEPOSITS",
    "DISPERSERS",
    "GATHER_SCATTER",
    "INTERSECTION_SUM",
    "ISOLATED",
    "JOINT_SCORING",
    "PASS_THROUGH",
    "PAYMENT_MISMATCH",
    "PEER_BENCHMARK",
    "RISK_PROPAGATION",
    "SCATTER_GATHER",
    "STRUCTURING",
    "TRACE",
    "TRANSFERS",
    "VELOCITY",
    "WATCHLIST_OVERLAP",
]

if TYPE_CHECKING:
    from secagg.patterns.banking.collectors import COLLECTORS
    from secagg.patterns.banking.cycles import CYCLES
    from secagg.patterns.banking.dispersers import DISPERSERS
    from secagg.patterns.banking.gather_scatter import GATHER_SCATTER
    from secagg.patterns.banking.intersection_sum import INTERSECTION_SUM
    from secagg.patterns.banking.isolated import ISOLATED
    from secagg.patterns.banking.joint_scoring import JOINT_SCORING
    from secagg.patterns.banking.pass_through import PASS_THROUGH
    from secagg.patterns.banking.payment_mismatch import PAYMENT_MISMATCH
    from secagg.patterns.banking.peer_benchmark import PEER_BENCHMARK
    from secagg.patterns.banking.risk_propagation import RISK_PROPAGATION
    from secagg.patterns.banking.scatter_gather import SCATTER_GATHER
    from secagg.patterns.banking.structuring import STRUCTURING
    from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS
    from secagg.patterns.banking.trace import TRACE
    from secagg.patterns.banking.velocity import VELOCITY
    from secagg.patterns.banking.watchlist_overlap import WATCHLIST_OVERLAP
else:
    __getattr__, __dir__ = face(
        "secagg.patterns.banking",
        {
            "secagg.patterns.banking.collectors": "COLLECTORS",
            "secagg.patterns.banking.cycles": "CYCLES",
            "secagg.patterns.banking.dispersers": "DISPERSERS",
            "secagg.patterns.banking.gather_scatter": "GATHER_SCATTER",
            "secagg.patterns.banking.intersection_sum": "INTERSECTION_SUM",
            "secagg.patterns.banking.isolated": "ISOLATED",
            "secagg.patterns.banking.joint_scoring": "JOINT_SCORING",
            "secagg.patterns.banking.pass_through": "PASS_THROUGH",
            "secagg.patterns.banking.payment_mismatch": "PAYMENT_MISMATCH",
            "secagg.patterns.banking.peer_benchmark": "PEER_BENCHMARK",
            "secagg.patterns.banking.risk_propagation": "RISK_PROPAGATION",
            "secagg.patterns.banking.scatter_gather": "SCATTER_GATHER",
            "secagg.patterns.banking.structuring": "STRUCTURING",
            "secagg.patterns.banking.tables": "DEPOSITS TRANSFERS",
            "secagg.patterns.banking.trace": "TRACE",
            "secagg.patterns.banking.velocity": "VELOCITY",
            "secagg.patterns.banking.watchlist_overlap": "WATCHLIST_OVERLAP",
        },
    )
