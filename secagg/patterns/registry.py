"""Which patterns there are: secagg's own, and those of installed distributions.

A distribution offers a pattern by an entry point of the group `secagg.patterns`. Its name is the pattern's. Its object is
an instance that keeps to the contract `pattern.Pattern`:

    [project.entry-points."secagg.patterns"]
    comorbidity = "hospital_patterns:COMORBIDITY"

Its module is imported when the pattern is asked for, and not before.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

import msgspec

from secagg import release
from secagg.errors import UsageError
from secagg.patterns.parameters import in_job_file
from secagg.patterns.pattern import INPUT, Pattern
from secagg.query.schema import Schema

GROUP: Final = "secagg.patterns"
_OWN: Final = {
    "collectors": "secagg.patterns.banking.collectors:COLLECTORS",
    "structuring": "secagg.patterns.banking.structuring:STRUCTURING",
    "dispersers": "secagg.patterns.banking.dispersers:DISPERSERS",
    "gather_scatter": "secagg.patterns.banking.gather_scatter:GATHER_SCATTER",
    "pass_through": "secagg.patterns.banking.pass_through:PASS_THROUGH",
    "trace": "secagg.patterns.banking.trace:TRACE",
    "intersection_sum": "secagg.patterns.banking.intersection_sum:INTERSECTION_SUM",
    "joint_scoring": "secagg.patterns.banking.joint_scoring:JOINT_SCORING",
    "payment_mismatch": "secagg.patterns.banking.payment_mismatch:PAYMENT_MISMATCH",
    "peer_benchmark": "secagg.patterns.banking.peer_benchmark:PEER_BENCHMARK",
    "risk_propagation": "secagg.patterns.banking.risk_propagation:RISK_PROPAGATION",
    "cycles": "secagg.patterns.banking.cycles:CYCLES",
    "scatter_gather": "secagg.patterns.banking.scatter_gather:SCATTER_GATHER",
    "isolated": "secagg.patterns.banking.isolated:ISOLATED",
    "watchlist_overlap": "secagg.patterns.banking.watchlist_overlap:WATCHLIST_OVERLAP",
    "velocity": "secagg.patterns.banking.velocity:VELOCITY",
    "private_intersection": "secagg.patterns.two_organisations.private_intersection:PRIVATE_INTERSECTION",
    "intersection_count": "secagg.patterns.two_organisations.intersection_count:INTERSECTION_COUNT",
    "intersection_sum_two": "secagg.patterns.two_organisations.intersection_sum_two:INTERSECTION_SUM_TWO",
    "record_linkage": "secagg.patterns.linkage.record_linkage:RECORD_LINKAGE",
    "linkage_count": "secagg.patterns.linkage.linkage_count:LINKAGE_COUNT",
    "survival": "secagg.patterns.health.survival:SURVIVAL",
    "logrank": "secagg.patterns.health.logrank:LOGRANK",
    "cox": "secagg.patterns.health.cox:COX",
    "cohort_count": "secagg.patterns.health.cohort_count:COHORT_COUNT",
    "crosstab": "secagg.patterns.health.crosstab:CROSSTAB",
    "metrics_by_group": "secagg.patterns.health.metrics_by_group:METRICS_BY_GROUP",
    "noisy_marginals": "secagg.patterns.health.noisy_marginals:NOISY_MARGINALS",
    "describe": "secagg.patterns.health.describe:DESCRIBE",
    "correlation": "secagg.patterns.health.correlation:CORRELATION",
    "marker_cooccurrence": "secagg.patterns.health.marker_cooccurrence:MARKER_COOCCURRENCE",
    "rare_variant": "secagg.patterns.health.rare_variant:RARE_VARIANT",
    "association": "secagg.patterns.health.association:ASSOCIATION",
    "linear_regression": "secagg.patterns.health.regression:LINEAR_REGRESSION",
    "logistic_regression": "secagg.patterns.health.regression:LOGISTIC_REGRESSION",
    "poisson_regression": "secagg.patterns.health.regression:POISSON_REGRESSION",
    "reach_and_overlap": "secagg.patterns.marketing.reach_and_overlap:REACH_AND_OVERLAP",
}
_OWN_DISTRIBUTION: Final = "secagg"
# What every installation has, in whatever version; parties compare secagg's release itself.
_COMMON: Final = frozenset({"secagg", "msgspec", "numpy", *sys.stdlib_module_names})
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ATTRIBUTES: Final = ("name", "summary", "inputs", "results", "Parameters", "roles", "phases")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pattern comes from.

    Attributes:
      distribution, version: as installed.
      module_sha256: in hexadecimal, of the file of the module that the entry point names. The pattern's class, its
        Parameters or a base of either may stand in another module. Then it is the digest of a list of all these files'
        SHA-256. Of secagg's, Python's, numpy's and msgspec's modules none is listed. "" for secagg's own patterns, whose
        release parties compare anyway. It tells apart copies of one version that were changed in one of these files.
    """

    distribution: str
    version: str
    module_sha256: str = ""

    def __str__(self) -> str:
        digest = f" (module SHA-256 {self.module_sha256})" if self.module_sha256 else ""
        return f"{self.distribution} {self.version}{digest}"


@dataclass(frozen=True, slots=True)
class Installed:
    """A pattern, and where it comes from."""

    pattern: Pattern
    origin: Origin


def names() -> tuple[str, ...]:
    """Return the names of all patterns that are installed, secagg's own first; loads none."""
    return tuple(dict.fromkeys([*_OWN, *sorted(point.name for point in _entry_points())]))


def find(name: str) -> Installed:
    """Return the pattern of this name.

    Raises:
      UsageError: there is none, several distributions offer one, or it cannot be loaded or breaks the contract.
    """
    offers = [point for point in _entry_points() if point.name == name]
    if name in _OWN:
        if offers:
            raise UsageError(
                f"the pattern {name} is secagg's own, and {_distributions(offers)} offers one of the same name; uninstall "
                "that, or have it renamed"
            )
        module, _, attribute = _OWN[name].partition(":")
        own = getattr(importlib.import_module(module), attribute)
        return Installed(own, Origin(_OWN_DISTRIBUTION, release.RELEASE))
    if not offers:
        _entry_points_on.cache_clear()  # it may be installed a moment later, and a notebook asks again
        raise UsageError(f"expected a pattern that is installed ({', '.join(names())}), got {name!r:.80}")
    if len(offers) > 1:
        raise UsageError(
            f"the pattern {name} is offered by {_distributions(offers)}; uninstall all of these but one"
        )
    return _load(offers[0])


def _entry_points() -> tuple[EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@functools.lru_cache(maxsize=2)  # to look for them reads a file of every distribution, and each job asks
def _entry_points_on(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # An editable install of secagg itself may tell of its own patterns as well.
    return tuple(
        point
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is None or point.dist.name != _OWN_DISTRIBUTION
    )


def _distributions(points: Sequence[EntryPoint]) -> str:
    return " and ".join(sorted(_origin_of(point) for point in points))


def _origin_of(point: EntryPoint) -> str:
    return (
        "a distribution without a name" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    )


def _load(point: EntryPoint) -> Installed:
    where = f"the pattern {point.name} of {_origin_of(point)}"
    if point.dist is None:
        raise UsageError(f"{where} cannot be told from others; install it as a distribution")
    try:
        pattern = point.load()
    except Exception as error:
        raise UsageError(
            f"{where} cannot be loaded from {point.value}: {type(error).__name__}: {error}"
        ) from error
    if (problem := _problem(pattern, point.name)) is not None:
        raise UsageError(f"{where} breaks the contract of patterns: {problem}")
    return Installed(
        pattern, Origin(point.dist.name, point.dist.version, _module_sha256(pattern, point, where))
    )


def _module_sha256(pattern: Any, point: EntryPoint, where: str) -> str:
    """Return the digest of the files that define a pattern, see `Origin`; raises `UsageError` for one without a file."""
    classes = {kind.__module__ for made in (type(pattern), pattern.Parameters) for kind in made.__mro__}
    foreign = {name for name in classes if name.partition(".")[0] not in _COMMON}
    digests = {name: _file_sha256(name, where) for name in sorted(foreign | {point.module})}
    if len(digests) == 1:
        return digests[point.module]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_sha256(module: str, where: str) -> str:
    source = getattr(sys.modules.get(module), "__file__", None)
    if source is None:
        raise UsageError(
            f"{where} is defined in {module}, which is no file, so that parties cannot compare it"
        )
    try:
        return hashlib.sha256(Path(source).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"{where} cannot be compared with others': cannot read {source}: {error.strerror}"
        ) from None


def _problem(pattern: Any, name: str) -> str | None:
    """Return in what an object breaks the contract, as far as that can be seen."""
    missing = [attribute for attribute in _ATTRIBUTES if not hasattr(pattern, attribute)]
    if not missing and not isinstance(pattern, Pattern):
        missing = [word for word in vars(Pattern) if not word.startswith("_") and not hasattr(pattern, word)]
    if missing:
        return f"it has no {', '.join(missing)}"
    if isinstance(pattern, type):
        return "expected an instance, got a class"
    if pattern.name != name or not _NAME.fullmatch(name):
        return f"expected the entry point's name, in lower-case letters, digits, '_' and '-', got {pattern.name!r:.80}"
    if not (isinstance(pattern.summary, str) and pattern.summary and pattern.summary.isprintable()):
        return "expected a summary that is printable and on one line"
    if not _is_mapping(pattern.inputs, Schema) or not isinstance(pattern.results, Schema):
        return "expected inputs that map names to schemas, and results that are a schema"
    if not _is_mapping(pattern.roles, tuple) or INPUT not in pattern.roles:
        return f"expected roles that map names to RoleSize, {INPUT!r} among them"
    if not isinstance(pattern.phases, tuple) or not all(isinstance(phase, str) for phase in pattern.phases):
        return "expected phases that are a tuple of names"
    return _problem_of_parameters(pattern.Parameters)


def _problem_of_parameters(kind: Any) -> str | None:
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "expected Parameters that are a msgspec.Struct"
    config = kind.__struct_config__
    if not (config.frozen and config.forbid_unknown_fields):
        return "expected Parameters with frozen=True and forbid_unknown_fields=True"
    called: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        name = in_job_file(field.name)
        if field.required:
            return f"expected a default of the parameter {field.name}"
        if name in called:
            return f"expected parameters of different names, and a job file calls {called[name]} and {field.name} {name}"
        called[name] = field.name
        if name != field.name and not (
            type(field.default) is int
            and isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.IntType)
        ):
            return f"expected a whole number for the amount {field.name}, and one as its default"
        if isinstance(field.default, float) and not math.isfinite(field.default):
            return f"expected a finite default of the parameter {field.name}, got {field.default}"
    return None


def _is_mapping(found: Any, kind: type) -> bool:
    return (
        isinstance(found, Mapping)
        and len(found) > 0
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name in found)
        and all(isinstance(value, kind) for value in found.values())
    )
