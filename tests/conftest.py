import pytest

from tinyflow.runtime import kept


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden loops anew instead of comparing them"
    )


@pytest.fixture(autouse=True)
def compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are not taken from disk: a test is of what the compiler does now."""
    monkeypatch.setattr(kept, "recall", lambda key: None)
    monkeypatch.setattr(kept, "keep", lambda key, made: None)
