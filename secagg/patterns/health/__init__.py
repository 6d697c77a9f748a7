"""Patterns for hospitals: statistics of patients at several of them."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "ASSOCIATION",
    "COHORT_COUNT",
    "CORRELATION",
    "COX",
    "CROSSTAB",
    "DESCRIBE",
    "LINEAR_REGRESSION",
    "LOGISTIC_REGRESSION",
    "LOGRANK",
    "MARKER_COOCCURRENCE",
    "METRICS_BY_GROUP",
    "NOISY_MARGINALS",
    "POISSON_REGRESSION",
    "RARE_VARIANT",
    "SURVIVAL",
]

if TYPE_CHECKING:
    from secagg.patterns.health.association import ASSOCIATION
    from secagg.patterns.health.cohort_count import COHORT_COUNT
    from secagg.patterns.health.correlation import CORRELATION
    from secagg.patterns.health.cox import COX
    from secagg.patterns.health.crosstab import CROSSTAB
    from secagg.patterns.health.describe import DESCRIBE
    from secagg.patterns.health.logrank import LOGRANK
    from secagg.patterns.health.marker_cooccurrence import MARKER_COOCCURRENCE
    from secagg.patterns.health.metrics_by_group import METRICS_BY_GROUP
    from secagg.patterns.health.noisy_marginals import NOISY_MARGINALS
    from secagg.patterns.health.rare_variant import RARE_VARIANT
    from secagg.patterns.health.regression import LINEAR_REGRESSION, LOGISTIC_REGRESSION, POISSON_REGRESSION
    from secagg.patterns.health.survival import SURVIVAL
else:
    __getattr__, __dir__ = face(
        "secagg.patterns.health",
        {
            "secagg.patterns.health.association": "ASSOCIATION",
            "secagg.patterns.health.cohort_count": "COHORT_COUNT",
            "secagg.patterns.health.correlation": "CORRELATION",
            "secagg.patterns.health.cox": "COX",
            "secagg.patterns.health.crosstab": "CROSSTAB",
            "secagg.patterns.health.describe": "DESCRIBE",
            "secagg.patterns.health.logrank": "LOGRANK",
            "secagg.patterns.health.marker_cooccurrence": "MARKER_COOCCURRENCE",
            "secagg.patterns.health.metrics_by_group": "METRICS_BY_GROUP",
            "secagg.patterns.health.noisy_marginals": "NOISY_MARGINALS",
            "secagg.patterns.health.rare_variant": "RARE_VARIANT",
            "secagg.patterns.health.regression": "LINEAR_REGRESSION LOGISTIC_REGRESSION POISSON_REGRESSION",
            "secagg.patterns.health.survival": "SURVIVAL",
        },
    )
