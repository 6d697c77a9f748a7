"""The tables that banks put in, and the formats in which they are known.

    name        table      columns
    secagg      transfers  beneficiary, sender, amount, time
    secagg      deposits   customer, amount, time
    amlsim      transfers  targetNodeId, sourceNodeId, value, time       (AMLSim's transactions.csv)
    amlsim-tx   transfers  RECEIVER_ACCOUNT_ID, SENDER_ACCOUNT_ID, TX_AMOUNT, TIMESTAMP
                                                                         (AMLSim's converted log)
    ibm-aml     transfers  To Bank:Account, From Bank:Account, Amount Received, Timestamp
    paysim      transfers  nameDest, nameOrig, amount, step
    saml-d      transfers  Receiver_account, Sender_account, Amount, Date with Time

IBM AML's header holds `Account` twice; the second is `Account_1` here, as in DuckDB. Its amounts and those of SAML-D are in
the currency of each row and are taken as they stand. Select one currency with a query where that matters. PaySim's rows are
of several types, all taken: select TRANSFER with a query.
"""

from __future__ import annotations

from typing import Final

from secagg.query.schema import Format, Identifier, Money, Schema, Time


def _format(name: str, *columns: tuple[str, ...], adjacent: tuple[str, ...] = ()) -> Format:
    fields = ("beneficiary", "sender", "amount", "time")
    return Format(name, dict(zip(fields, columns, strict=True)), adjacent)


TRANSFERS: Final = Schema(
    beneficiary=Identifier(), sender=Identifier(), amount=Money(), time=Time()
).with_formats(
    _format("amlsim", ("targetNodeId",), ("sourceNodeId",), ("value",), ("time",)),
    _format("amlsim-tx", ("RECEIVER_ACCOUNT_ID",), ("SENDER_ACCOUNT_ID",), ("TX_AMOUNT",), ("TIMESTAMP",)),
    _format(
        "ibm-aml",
        ("To Bank", "Account_1"),
        ("From Bank", "Account"),
        ("Amount Received",),
        ("Timestamp",),
        adjacent=("From Bank", "Account", "To Bank", "Account_1"),
    ),
    _format("paysim", ("nameDest",), ("nameOrig",), ("amount",), ("step",)),
    _format("saml-d", ("Receiver_account",), ("Sender_account",), ("Amount",), ("Date", "Time")),
)
DEPOSITS: Final = Schema(customer=Identifier(), amount=Money(), time=Time())
