"""Commands of `secagg`, run in this process."""

from __future__ import annotations

import pytest

from secagg.cli import main


class Ended:
    """How a command ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        try:
            main([str(argument) for argument in arguments])
            self.status = 0
        except SystemExit as end:
            self.status = end.code if isinstance(end.code, int) else int(end.code is not None)
        self.out, self.err = capsys.readouterr()
        assert "Traceback" not in self.err
