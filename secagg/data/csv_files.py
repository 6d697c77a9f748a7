"""A CSV file: its encoding and dialect, what DuckDB left out of it, and where in it a record begins.

CSV is read as text throughout, so that a value which cannot be used is found row by row. DuckDB's CSV
reader is fast and, in the versions from 1.2 to 2.0, loses rows without a word. In parallel, it loses those that
share a thread's block with a malformed record at its start. Alone, it loses those after a quote that is not closed.
So it reads alone, and the csv module reads the file beside it, strictly, and counts. Where a row is bad,
the csv module reads once more to find its line.

Text in another encoding than UTF-8 is recoded into memory first, and so is what bzip2, xz or ZIP packed. These and gzip are
known by their first bytes. A first line
`sep=;`, which spreadsheets write, names the delimiter.
"""

from __future__ import annotations

import bz2
import codecs
import collections
import csv
import gzip
import io
import lzma
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from secagg.data.dialect import Dialect
from secagg.errors import DataError

__all__ = ["CsvFile", "Malformed"]

_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_UTF8_MARK = codecs.BOM_UTF8
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What is no text, by its first bytes.
_ZIP = b"PK\x03\x04"
_BZIP2, _XZ = b"BZh", b"\xfd7zXZ"
_PACKED = {_GZIP: "gzip", _BZIP2: "bzip2", _XZ: "xz", _ZIP: "zip"}
_DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_FAILURES = (OSError, EOFError, *_DAMAGED)  # of opening and reading
_OTHER_KINDS = {
    b"PAR1": "Parquet; let its name end in .parquet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls); export it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or use gzip",
}
_SEP_LINE = re.compile(r'"?sep=(.)"?[ ,;\t]*\r?\n', re.IGNORECASE)

# DuckDB's names of what may be wrong with a record, in several of its versions, and ours.
_MALFORMED = {
    "MISSING COLUMNS": "has too few columns",
    "TOO MANY COLUMNS": "has too many columns",
    "INVALID ENCODING": "is not UTF-8",
    "INVALID UNICODE": "is not UTF-8",
    "LINE SIZE OVER MAXIMUM": "is too long",
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """A CSV record that cannot be split into columns, and about the byte at which it begins."""

    offset: int
    reason: str


class CsvFile:
    """A CSV file, its dialect, and where in it a record begins.

    Attributes:
      header: the column names as they stand in the file, without surrounding whitespace.
      delimiter: the dialect's; else that of a line `sep=`, tab in a .tsv file, or whichever of , ; tab |
        splits the header into most names.
      encoding: what the text was in, as Python calls it.
      zipped: whether what `place` holds is compressed with gzip.
      packing: what the file was compressed with, "" for nothing.
      place: where the text can be read as UTF-8: the file, or memory.
      skipped_lines: how many lines stand before the header.

    Raises:
      DataError: the file cannot be read, is empty, is of another kind, or is not in its encoding.
    """

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        dialect = dialect or Dialect()
        self._path = path
        self._memory: BinaryIO | None = None
        self.place = str(path.resolve())
        self.skipped_lines = 0
        self.zipped = False
        self.packing = ""
        first = self._first_bytes()
        self.packing = next((name for start, name in _PACKED.items() if first.startswith(start)), "")
        self.zipped = self.packing == "gzip"
        if self.packing:
            first = self._first_bytes()
        self.encoding = self._tell_encoding(first, dialect.encoding)
        if self.encoding != "utf-8" or self.packing not in ("", "gzip"):
            self._recode()
        try:
            self.header, self.delimiter = self._read_header(dialect.delimiter)
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """Give back the memory of a text that was recoded."""
        if self._memory is not None:
            self._memory.close()

    def _open(self) -> BinaryIO:
        # These are kinds of BufferedIOBase that typeshed does not count as BinaryIO.
        opened: Any = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
        packing = self.packing if self._memory is None else ""
        if packing == "zip":
            return self._open_zip()  # type: ignore[no-any-return]
        if packing:
            return opened[packing](self.place)  # type: ignore[no-any-return]
        return open(self.place, "rb")  # noqa: PTH123  # its caller closes it

    def _open_zip(self) -> Any:
        archive = zipfile.ZipFile(self.place)
        names = [one for one in archive.infolist() if not one.is_dir()]
        if len(names) != 1:
            spreadsheet = any(one.filename == "[Content_Types].xml" for one in names)
            what = (
                "a spreadsheet (.xlsx); export it as CSV"
                if spreadsheet
                else f"a ZIP archive of {len(names)} files"
            )
            raise DataError(
                f"{self._path}: a text file, or a ZIP archive of one, is expected, and this is {what}"
            )
        try:
            return archive.open(names[0])
        except (RuntimeError, NotImplementedError):
            raise DataError(
                f"{self._path}: the ZIP archive is encrypted or of a kind that is not read; unpack it"
            ) from None

    def _unreadable(self, error: Exception) -> DataError:
        # bz2 says the same by an OSError without a number.
        if isinstance(error, EOFError):
            return DataError(f"{self._path}: the {self.packing} file ends too early; copy it again")
        if isinstance(error, _DAMAGED) or (self.packing == "bzip2" and getattr(error, "errno", None) is None):
            return DataError(f"{self._path}: the {self.packing} file is damaged; copy it again")
        why = error.strerror if isinstance(error, OSError) else None
        return DataError(f"{self._path}: the file cannot be read ({why or type(error).__name__})")

    def _first_bytes(self) -> bytes:
        try:
            with self._open() as file:
                return file.read(6)
        except _FAILURES as error:
            raise self._unreadable(error) from None

    def check_whole(self) -> None:
        """Read a compressed file to its end, after DuckDB failed at it without saying why.

        Raises:
          DataError: it ends too early, is damaged, or cannot be read.
        """
        if not self.zipped:
            return
        try:
            with self._open() as file:
                while file.read(_CHUNK_BYTES):
                    pass
        except _FAILURES as error:
            raise self._unreadable(error) from None

    def _tell_encoding(self, first: bytes, said: str | None) -> str:
        for start, what in _OTHER_KINDS.items():
            if first.startswith(start):
                raise DataError(f"{self._path}: a text file is expected, and this is {what}")
        if first.startswith(_UTF8_MARK) and said not in (None, "utf-8", "utf-8-sig"):
            raise DataError(
                f"{self._path}: the file begins with the mark of UTF-8, and its encoding is said to be {said}; "
                "leave the encoding out"
            )
        if said is None and b"\0" in first and not first.startswith(_UTF16_MARKS):
            raise DataError(
                f"{self._path}: this is no UTF-8; say its encoding, on the command line --encoding, such as utf-16-le"
            )
        if said is None:
            return "utf-16" if first.startswith(_UTF16_MARKS) else "utf-8"
        return "utf-8" if said == "utf-8-sig" else said

    def _recode(self) -> None:
        """Write the text as UTF-8 into memory that has a name."""
        if sys.platform != "linux":
            raise DataError(
                f"{self._path}: text in {self.encoding}, or packed other than by gzip, can be read on Linux alone; write it "
                "anew in UTF-8"
            )
        # In memory and not in a file: nothing of a table is to be left on a disk.
        memory = os.fdopen(os.memfd_create("table"), "w+b")
        # Of UTF-8, what is broken is found row by row.
        decoder = None if self.encoding == "utf-8" else codecs.getincrementaldecoder(self.encoding)()
        line = 1
        try:
            with self._open() as file:
                more = True
                while more:
                    chunk = file.read(_CHUNK_BYTES)
                    more = bool(chunk)
                    if decoder is None:
                        memory.write(chunk)
                        continue
                    text = decoder.decode(chunk, final=not more)
                    line += text.count("\n")
                    memory.write(text.encode())
        except UnicodeError as error:
            memory.close()
            if isinstance(error, UnicodeDecodeError):
                line += error.object[: error.start].decode(self.encoding, "ignore").count("\n")
            raise DataError(
                f"{self._path}:{line}: this is not {self.encoding}; say the encoding that it is"
            ) from None
        except _FAILURES as error:
            memory.close()
            raise self._unreadable(error) from None
        memory.flush()
        self._memory, self.zipped = memory, False
        self.place = f"/proc/self/fd/{memory.fileno()}"

    def _read_header(self, said: str | None) -> tuple[list[str], str]:
        try:
            with self._open() as file:
                head = file.read(_HEADER_BYTES)
        except _FAILURES as error:
            raise self._unreadable(error) from None
        try:
            head.split(b"\n", 1)[0].decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(
                f"{self._path}: the first line is not UTF-8; say the table's encoding, on the command line "
                "--encoding, such as cp1252"
            ) from None
        text = head.decode("utf-8-sig", errors="replace")
        if sep := _SEP_LINE.match(text):
            self.skipped_lines = 1
            text = text[sep.end() :]
            if said not in (None, sep[1]):
                raise DataError(
                    f"{self._path}: the first line says sep={sep[1]}, and the delimiter is said to be {said!r}"
                )
            said = Dialect(delimiter=sep[1]).delimiter
        if not text.strip():
            raise DataError(f"{self._path}: the file is empty; a line with column names is expected first")
        if not text.splitlines()[0].strip():
            raise DataError(f"{self._path}: the first line is blank, and column names are expected there")
        tabs_only = ".tsv" in (suffix.lower() for suffix in self._path.suffixes[-2:])
        candidates = said or ("\t" if tabs_only else ",;\t|")
        headers = {delimiter: _first_record(text, delimiter) for delimiter in candidates}
        delimiter = max(candidates, key=lambda candidate: len(headers[candidate]))
        return [name.strip() for name in headers[delimiter]], delimiter

    def malformed(self, connection: duckdb.DuckDBPyConnection, rows: int) -> list[Malformed]:
        """Return the records that the connection's one scan of this file left out, in order.

        Args:
          connection: what scanned.
          rows: how many rows the scan gave.

        Raises:
          DataError: quotes are broken, so that it is not known where records end; or the rows and what is
            returned are not the whole file.
        """
        records = self._count_records()
        rejected = connection.execute(
            "SELECT line_byte_position, error_type::VARCHAR FROM reject_errors "
            "ORDER BY line_byte_position, column_idx"
        ).fetchall()
        found: dict[int, str] = {}
        for offset, kind in rejected:
            found.setdefault(offset, _MALFORMED.get(kind, "cannot be split into columns"))
        if rows + len(found) != records:
            raise DataError(
                f"{self._path}: the file holds {records} records, of which DuckDB finds {rows + len(found)}; write "
                "it again with one kind of line end, and quotes as RFC 4180 has them"
            )
        return [Malformed(offset, reason) for offset, reason in found.items()]

    @property
    def _blank_is_a_row(self) -> bool:
        # DuckDB reads a blank line below one column as a row without a value, and passes over it below several.
        return len(self.header) == 1

    def _count_records(self) -> int:
        try:
            with io.TextIOWrapper(self._open(), "utf-8-sig", errors="replace", newline="") as text:
                for _ in range(self.skipped_lines):
                    text.readline()
                widths = collections.Counter(
                    map(len, csv.reader(text, delimiter=self.delimiter, strict=True))
                )
        except csv.Error:
            return sum(1 for _ in self._records()) - 1  # which knows the line
        except _FAILURES as error:
            raise self._unreadable(error) from None
        blank = 0 if self._blank_is_a_row else widths[0]
        return widths.total() - blank - 1  # the header

    def locate(
        self, rows: Sequence[int], malformed: Sequence[Malformed], total: int
    ) -> tuple[list[int], list[int]]:
        """Return the physical lines on which rows of the scan begin, and malformed records; 0 for not known.

        Args:
          rows: places among the rows that the scan gave, from 0.
          malformed: all records that the scan left out.
          total: how many rows the scan gave.
        """
        wanted = set(rows)
        row_lines: dict[int, int] = {}
        malformed_lines: list[int] = []
        seen = -1  # the header
        for line, end in self._records():
            # DuckDB's byte is a few off, within the record or the blank lines before it.
            if len(malformed_lines) < len(malformed) and malformed[len(malformed_lines)].offset < end:
                malformed_lines.append(line)
                continue
            if seen in wanted:
                row_lines[seen] = line
            seen += 1
        if seen != total or len(malformed_lines) != len(malformed):
            # DuckDB's byte is further off than was ever seen; no line is better than a wrong one.
            return [0 for _ in rows], [0 for _ in malformed]
        return [row_lines[row] for row in rows], malformed_lines

    def _records(self) -> Iterator[tuple[int, int]]:
        """Yield the line on which each record begins, and the byte at which it ends; blank lines as DuckDB counts them.

        Raises:
          DataError: a quote is broken. It may run on to a later one and hide the rows between, so that they
            can be neither counted nor dropped.
        """
        line, end = 0, 0
        with self._open() as file:

            def texts() -> Iterator[str]:
                nonlocal line, end
                for raw in file:
                    line += 1
                    end += len(raw)
                    yield raw.decode("utf-8", errors="replace")

            lines = texts()
            for _ in range(self.skipped_lines):
                next(lines, None)
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            while True:
                start = line + 1
                try:
                    record = next(reader, None)
                except csv.Error:
                    raise DataError(
                        f"{self._path}:{start}: from here on, a quote is not closed, text stands beside a quoted "
                        f"one, a carriage return stands alone, or a field is longer than {csv.field_size_limit()} "
                        "characters; mend the file: the rows that this may hide cannot be skipped"
                    ) from None
                if record is None:
                    return
                if record or self._blank_is_a_row:
                    yield start, end


def _first_record(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return []
