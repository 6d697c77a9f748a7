"""What a database's error means, in words that hold no address, no statement, no parameter and no value.

The text of a driver's error quotes all of these. So its class and its SQLSTATE are shown, and words of this module's own.
"""

from __future__ import annotations

from typing import Final

__all__ = ["describe"]

# The codes of ISO/IEC 9075-2 and of PostgreSQL, the longest beginning that is known first.
_STATES: Final = {
    "28P01": "the password is wrong; see where the source file says that it is",
    "28": "the login is refused; see user and password, and who may log in from this machine",
    "3D000": "there is no such database; see the url in the source file",
    "42P01": "there is no such table; see table or query in the source file",
    "42703": "there is no such column; see the query in the source file",
    "42501": "the user may not read this; grant it SELECT",
    "42601": "the query is not SQL as this database has it; run it by itself",
    "3F000": "there is no such schema; see table in the source file",
    "25006": "the query writes, and tables are read in a read-only transaction; write a SELECT",
    "22": "a value cannot be computed with or converted; run the query by itself",
    "40": "the database ended the transaction for the sake of another one; start again",
    "53": "the database has no room: connections, memory or disk; ask whoever runs it",
    "57014": "the statement was cancelled, or took longer than the database allows",
    "57P03": "the database is starting up or shutting down; wait and start again",
    "57P": "the database was shut down or ended the connection; start again when it is up",
    "08": "the connection is broken or cannot be made; see host, port and firewall",
}
# While a connection is made, libpq tells no SQLSTATE. Of its text only these are looked for, and none is shown.
_PHRASES: Final = {
    "password authentication failed": _STATES["28P01"],
    "no pg_hba.conf entry": "the login is refused from this machine; have user, database and address allowed there",
    "role ": _STATES["28"],
    "database ": _STATES["3D000"],
    "refused": "nothing listens at its host and port; see both, and whether it is up",
    "timeout": "nothing answers at its host and port; see both, and the firewall",
    "resolve": "its host has no address; see the name in the url",
    "translate host": "its host has no address; see the name in the url",
    "too many": _STATES["53"],
    "connection slots": _STATES["53"],
    "does not support ssl": "it offers no TLS; have it switched on, or write sslmode=disable in the url where the "
    "network is to be trusted",
    "certificate": "its certificate, or this machine's, is not taken; see sslmode and sslrootcert in the url",
    "starting up": _STATES["57P03"],
}
_CLASSES: Final = {
    "InterfaceError": "the connection is broken; start again when the database is up",
    "OperationalError": "it cannot be reached, refuses the login, or ended the connection; see host, port, user, password "
    "and firewall, and whether it is up",
    "ProgrammingError": "it does not take the query; see table, columns or query in the source file",
    "DataError": "a value cannot be read, such as an infinite date; cast the column to text in a query",
    "NotSupportedError": "it does not do what is asked of it, which may be the isolation level",
}


def describe(error: BaseException) -> str:
    """Return what an error of SQLAlchemy or of a driver means, without anything that it quotes."""
    original = getattr(error, "orig", None) or error
    state = str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")
    state = state if state.isascii() and state.isalnum() and len(state) == 5 else ""
    known = next((state[:n] for n in (5, 3, 2) if state[:n] in _STATES), "")
    # A driver may have kinds of its own below the standard's.
    named = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _CLASSES), "")
    words = _CLASSES.get(named, "it cannot be read; see its own log")
    if known:
        words = _STATES[known]
    elif named == "OperationalError":
        text = str(original).lower()
        words = next((said for phrase, said in _PHRASES.items() if phrase in text), words)
    return f"{words} ({type(original).__name__}{f', SQLSTATE {state}' if state else ''})"
