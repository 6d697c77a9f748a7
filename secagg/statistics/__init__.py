"""Statistics of patients at several hospitals: survival, Cox's model, tables, correlation and association.

Functions take shared counts or rows, and note what is to be computed: nothing is opened here. Where a hospital can add up
its own rows alone, it does, and only sums are shared (`counts_by_time` and the like are plain numpy).

Modules, each of which stands on those before it:

  ratios       quotients of counts, finer than `x / y`
  survival     Kaplan-Meier curves
  log_rank     the log-rank test
  hazards      the proportional hazards model
  contingency  tables of counts, chi-square, Fisher's exact test of opened ones
  exact        Fisher's exact test of a table that stays shared
  served       whom a model serves worse: metrics by group, small groups suppressed
  moments      means, variances and quantiles by group; correlations
  variants     many variants, one trait, covariates
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "association",
    "chi_square",
    "confidence_interval",
    "correlation",
    "counts_by_time",
    "cox",
    "fisher_exact",
    "fisher_p_value",
    "kaplan_meier",
    "logrank",
    "p_value",
    "quantiles",
]

if TYPE_CHECKING:
    from secagg.statistics.contingency import chi_square, fisher_exact
    from secagg.statistics.exact import fisher_p_value
    from secagg.statistics.hazards import cox
    from secagg.statistics.log_rank import logrank, p_value
    from secagg.statistics.moments import correlation, quantiles
    from secagg.statistics.survival import confidence_interval, counts_by_time, kaplan_meier
    from secagg.statistics.variants import association
else:
    __getattr__, __dir__ = face(
        "secagg.statistics",
        {
            "secagg.statistics.contingency": "chi_square fisher_exact",
            "secagg.statistics.exact": "fisher_p_value",
            "secagg.statistics.hazards": "cox",
            "secagg.statistics.log_rank": "logrank p_value",
            "secagg.statistics.moments": "correlation quantiles",
            "secagg.statistics.survival": "confidence_interval counts_by_time kaplan_meier",
            "secagg.statistics.variants": "association",
        },
    )
