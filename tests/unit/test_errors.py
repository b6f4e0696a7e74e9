"""What an error of any kind is told as."""

from edgeprune.errors import ExitCode, RuntimeUnavailableError, describe


def test_an_error_that_arose_from_an_interruption_is_the_interruption() -> None:
    # onnxruntime interrupted while its extension is loaded: pybind11 raises ImportError, and we tell of that.
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as pressed:
            raise ImportError("initialization failed") from pressed
    except ImportError as problem:
        error = RuntimeUnavailableError("onnxruntime is installed but cannot be loaded")
        error.__cause__ = problem
    sentence, code = describe(error)
    assert code == ExitCode.INTERRUPTED
    assert sentence.startswith("interrupted; finished stages are kept")


def test_an_error_that_followed_another_is_told_as_itself() -> None:
    error = RuntimeUnavailableError("onnxruntime is not installed")
    error.__cause__ = ImportError("no module")
    assert describe(error) == ("onnxruntime is not installed", ExitCode.RUNTIME)
