from __future__ import annotations

from pathlib import Path

import pytest


def needs(pytester: pytest.Pytester, name: str) -> pytest.RunResult:
    pytester.makeconftest('pytest_plugins = ["tests.plugins.needs"]')
    pytester.makepyfile(f"import pytest\n@pytest.mark.needs({name!r})\ndef test_it(): pass")
    return pytester.runpytest("-p", "no:asyncio", "-rs")


def test_a_test_is_skipped_with_the_command_that_would_let_it_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.programs.SEARCH_PATH", "")
    result = needs(pytester, "nginx")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*nginx is not installed: apt-get install nginx-light"])


def test_a_test_runs_where_its_program_is_installed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nginx").touch(mode=0o755)
    monkeypatch.setattr("tests.support.programs.SEARCH_PATH", str(tmp_path))
    needs(pytester, "nginx").assert_outcomes(passed=1)


def test_a_program_that_is_not_in_the_table_is_an_error(pytester: pytest.Pytester) -> None:
    needs(pytester, "ngnix").assert_outcomes(errors=1)
