"""Covariates of patients: a row a patient and covariate in a hospital's file, and a row a patient in what is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError
from secagg.patterns.health.agreed_names import places
from secagg.query.schema import Identifier, Real, Schema

LARGEST: Final = 8192
VALUE: Final = Real(Decimal(-LARGEST), Decimal(LARGEST), 6)
COVARIATES: Final = Schema(patient=Identifier(), covariate=Identifier(repeated=True), value=VALUE)


def wide(covariates: Sequence[str], patients: Any, table: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return each patient's agreed covariates, of shape (patients, covariates).

    Raises:
      DataError: a patient that is there twice, or without a covariate, or with one twice.
    """
    row = {patient: i for i, patient in enumerate(patients)}
    if len(row) != len(patients):
        raise DataError(
            f"{len(patients) - len(row)} patients stand in more than one row of patients; leave one row each"
        )
    x = np.full((len(row), len(covariates)), np.nan)
    wanted = np.array([name in covariates for name in table["covariate"]], bool)
    names = [name for name, keep in zip(table["covariate"], wanted, strict=True) if keep]
    column = places(names, covariates, "covariate")
    of = [row.get(patient, -1) for patient, keep in zip(table["patient"], wanted, strict=True) if keep]
    known = np.array(of, np.int64)
    kept = known >= 0  # others' covariates are of patients without a time, who take no part
    at = known[kept] * x.shape[1] + column[kept]
    if len(np.unique(at)) != len(at):
        raise DataError(
            f"{len(at) - len(np.unique(at))} covariates of a patient are there twice; leave one each"
        )
    x.reshape(-1)[at] = np.asarray(table["value"], np.int64)[wanted][kept] / 10.0**VALUE.decimals
    missing = int(np.isnan(x).any(axis=1).sum())
    if missing:
        raise DataError(
            f"{missing} of {len(row)} patients lack an agreed covariate; leave them out of patients, or fill it in"
        )
    return x
