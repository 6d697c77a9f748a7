"""Which tests have to notice a change of which module: for each pattern, files in the order in which they run."""

from __future__ import annotations

import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_ENGINE: Final = (
    "tests/mpc/three/test_transcripts.py",
    "tests/mpc/three/test_engine.py",
    "tests/mpc/three/test_soundness_arguments.py",
)
_VIEWS: Final = ("tests/mpc/three/test_views.py", "tests/mpc/three/test_costs.py")
_GROUP_BY: Final = (
    "tests/protocols/test_transcripts.py",
    "tests/protocols/test_endings.py",
    "tests/protocols/test_announcement.py",
    "tests/protocols/test_input_lists.py",
    "tests/protocols/test_group_by.py",
    "tests/mpc/three/test_soundness_arguments.py",
    "tests/test_soundness_numbers.py",
    "tests/patterns/test_banking.py",
)

_CONSTANTS: Final = "tests/test_soundness_constants.py"
_FLOWER: Final = (
    "tests/integrations/test_flower_nodes.py",
    "tests/integrations/test_flower_graph.py",
    "tests/integrations/test_flower_budgets.py",
    "tests/integrations/test_flower_privacy.py",
    "tests/integrations/test_flower_simulation.py",
)
TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "secagg/mailbox.py": ("tests/test_mailbox.py", "tests/party/test_*.py", _CONSTANTS),
    "secagg/mpc/additive.py": ("tests/mpc/test_additive.py", "tests/protocols/test_additive_sum.py"),
    "secagg/mpc/arrays/*.py": (
        "tests/mpc/test_arrays_operators.py",
        "tests/mpc/test_arrays_refusals.py",
        "tests/mpc/test_arrays_scheduler.py",
        "tests/mpc/test_arrays_engines.py",
        "tests/mpc/test_arrays_cost.py",
        "tests/mpc/test_arrays_debug.py",
        "tests/mpc/test_arrays_elementary.py",
    ),
    "secagg/mpc/clear.py": ("tests/mpc/test_clear.py", "tests/mpc/test_arrays_operators.py"),
    "secagg/mpc/bits.py": (
        "tests/mpc/test_bits.py",
        "tests/mpc/three/test_transcripts.py",
        "tests/mpc/three/test_costs.py",
    ),
    "secagg/mpc/buckets.py": (
        "tests/mpc/test_merge.py",
        "tests/test_soundness_numbers.py",
        "tests/mpc/three/test_soundness_arguments.py",
    ),
    "secagg/mpc/three/comparison.py": ("tests/mpc/three/test_comparison.py", *_ENGINE, *_VIEWS),
    "secagg/mpc/three/conversion.py": ("tests/mpc/three/test_conversion.py", *_ENGINE, *_VIEWS),
    "secagg/mpc/merge.py": (
        "tests/mpc/test_merge.py",
        "tests/mpc/three/test_transcripts.py",
        "tests/mpc/three/test_costs.py",
    ),
    "secagg/mpc/tables/*.py": (
        "tests/mpc/tables/test_table_openings.py",
        "tests/mpc/tables/test_table_engines.py",
        "tests/mpc/tables/test_tables.py",
    ),
    "secagg/mpc/sorting/*.py": ("tests/mpc/test_sorting.py", "tests/mpc/test_arrays_ordering.py"),
    "secagg/mpc/streams.py": ("tests/mpc/three/test_engine.py", *_ENGINE),
    "secagg/mpc/three/streams.py": ("tests/mpc/three/test_engine.py", *_ENGINE),
    "secagg/mpc/three/shuffle.py": (
        "tests/mpc/three/test_shuffle.py",
        "tests/mpc/three/test_transcripts.py",
        "tests/mpc/three/test_soundness_arguments.py",
    ),
    "secagg/mpc/three/truncation.py": ("tests/mpc/three/test_truncation.py", *_ENGINE, *_VIEWS),
    "secagg/mpc/engines.py": ("tests/mpc/test_engines.py", "tests/protocols/test_group_by.py"),
    "secagg/mpc/columns.py": ("tests/mpc/test_merge.py", "tests/mpc/three/test_primitives.py"),
    "secagg/mpc/three/*.py": (
        "tests/mpc/three/test_primitives.py",
        "tests/mpc/three/test_engine.py",
        *_ENGINE,
        "tests/mpc/three/test_costs.py",
        "tests/mpc/three/test_views.py",
    ),
    "secagg/mpc/*.py": (*_ENGINE, *_VIEWS, "tests/mpc/three/test_arithmetic.py"),
    "secagg/party/*.py": (
        "tests/party/test_*.py",
        "tests/test_fork.py",
        "tests/network/test_simulated.py",
        "tests/network/test_stepwise.py",
        "tests/protocols/test_additive_sum.py",
        "tests/protocols/test_sums.py",
    ),
    "secagg/prg.py": (
        "tests/test_prg.py",
        "tests/test_fork.py",
        "tests/mpc/three/test_engine.py",
        "tests/test_soundness_numbers.py",
    ),
    "secagg/ring/*.py": (
        "tests/test_ring.py",
        "tests/mpc/three/test_arithmetic.py",
        "tests/mpc/test_bits.py",
    ),
    "secagg/signing.py": ("tests/test_signing.py", "tests/protocols/masked_sum/test_keys.py"),
    "secagg/wire.py": ("tests/test_wire.py", "tests/party/test_*.py", _CONSTANTS),
    "secagg/network/hello.py": ("tests/network/test_hello.py",),
    "secagg/network/pinning.py": ("tests/network/test_pinning.py",),
    "secagg/network/stepwise.py": ("tests/network/test_stepwise.py",),
    "secagg/network/*.py": (
        "tests/network/test_tcp.py",
        "tests/network/test_impostors.py",
        "tests/network/test_identity.py",
    ),
    "secagg/protocols/group_by/*.py": _GROUP_BY,
    "secagg/protocols/pseudonyms.py": (
        "tests/protocols/test_pseudonyms.py",
        "tests/test_soundness_numbers.py",
    ),
    "secagg/protocols/agreement.py": (
        "tests/protocols/test_agreement.py",
        "tests/protocols/test_additive_sum.py",
        "tests/protocols/test_bounded_sum.py",
    ),
    "secagg/protocols/additive_sum/*.py": (
        "tests/protocols/test_agreement.py",
        "tests/protocols/test_additive_sum.py",
        "tests/protocols/test_sums.py",
        "tests/protocols/test_transcripts.py",
    ),
    "secagg/protocols/bounded_sum/*.py": (
        "tests/protocols/test_agreement.py",
        "tests/protocols/test_bounded_sum.py",
        "tests/protocols/test_sums.py",
        "tests/protocols/test_transcripts.py",
    ),
    "secagg/protocols/masked_sum/*.py": (
        "tests/protocols/masked_sum",
        "tests/protocols/test_sums.py",
        "tests/protocols/test_transcripts.py",
        "tests/test_soundness_numbers.py",
    ),
    "secagg/protocols/he_sum/*.py": ("tests/protocols/he_sum", "tests/protocols/test_sums.py"),
    "secagg/protocols/*.py": _GROUP_BY,
    "secagg/patterns/*.py": ("tests/patterns",),
    "secagg/patterns/banking/*.py": ("tests/patterns",),
    "secagg/he/paillier/*.py": ("tests/he/paillier", "tests/he/test_soundness_arguments.py"),
    "secagg/he/rlwe/*.py": (
        "tests/he/rlwe",
        "tests/he/test_soundness_arguments.py",
        "tests/protocols/he_sum/test_threshold_rlwe.py",
    ),
    "secagg/he/ckks/*.py": ("tests/he/test_ckks.py", _CONSTANTS),
    "secagg/he/*.py": ("tests/he/test_scheme.py", "tests/he/test_key_files.py"),
    "secagg/updates/*.py": ("tests/aggregation/test_bounded.py", "tests/aggregation/test_privacy.py"),
    "secagg/dp/*.py": ("tests/dp", "tests/aggregation/test_privacy.py", _CONSTANTS),
    "secagg/federated/*.py": ("tests/federated", *_FLOWER),
    "secagg/integrations/flower/*.py": _FLOWER,
    "secagg/integrations/crypten/*.py": ("tests/integrations/test_crypten.py",),
}


def noticed_by(module: str) -> tuple[str, ...]:
    """Return what runs for a module: the test that is named like it, then what the first pattern names that it fits."""
    path = PurePosixPath(module)
    own = PurePosixPath("tests", *path.parent.parts[1:], f"test_{path.name}")
    for pattern, tests in TARGETS.items():
        if fnmatch.fnmatch(module, pattern):
            return tuple(dict.fromkeys([*([str(own)] if (ROOT / own).exists() else []), *tests]))
    raise SystemExit(f"{module}: no tests are named for it in tests/mutants/targets.py")
