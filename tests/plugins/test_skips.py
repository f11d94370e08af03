from __future__ import annotations

import pytest

CONFTEST = 'pytest_plugins = ["tests.plugins.needs", "tests.plugins.skips"]'

TWO_TESTS = """
    import pytest

    def test_runs():
        pass

    @pytest.mark.skip(reason="no such kernel")
    def test_skipped():
        pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST)
    pytester.mkdir("tests")
    expect(pytester, "")
    return pytester


def expect(project: pytest.Pytester, lines: str) -> None:
    (project.path / "tests" / "skips.txt").write_text(lines)


def test_a_skip_that_nobody_expects_fails_a_ci_run(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=TWO_TESTS)
    result = project.runpytest("-p", "no:asyncio")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_it.py::test_skipped: no such kernel"])


def test_elsewhere_a_skip_is_a_skip(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    project.makepyfile(test_it=TWO_TESTS)
    assert project.runpytest("-p", "no:asyncio").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("line", ["test_it.py::test_skipped  # why", "no such kernel"])
def test_the_list_names_tests_or_reasons(project: pytest.Pytester, line: str) -> None:
    expect(project, f"# a comment\n{line}\n")
    project.makepyfile(test_it=TWO_TESTS)
    assert project.runpytest("-p", "no:asyncio").ret == pytest.ExitCode.OK


def test_the_list_names_tests_without_their_parameters(project: pytest.Pytester) -> None:
    expect(project, "test_it.py::test_skipped")
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.parametrize("size", [1, 2])
        def test_skipped(size):
            pytest.skip("too large")
        """
    )
    assert project.runpytest("-p", "no:asyncio").ret == pytest.ExitCode.OK


def test_a_skipped_module_counts(project: pytest.Pytester) -> None:
    project.makepyfile(test_it='import pytest; pytest.importorskip("no_such_module")')
    project.makepyfile(test_runs="def test_runs(): pass")
    result = project.runpytest("-p", "no:asyncio")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_it.py: could not import 'no_such_module'*"])


def test_an_expected_failure_is_no_skip(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.xfail
        def test_fails():
            assert False
        """
    )
    assert project.runpytest("-p", "no:asyncio").ret == pytest.ExitCode.OK
