"""From text to functions: linking, outside symbols, errors with their lines."""

import ctypes
import math
import threading

import pytest

from tinyflow.runtime import machine
from tinyflow.runtime.machine import IRError, check_ir, compile_ir, compile_many

ANSWER = "define i64 @answer() {{\n  ret i64 {}\n}}\n"
OUTSIDE = """
declare double @cbrt(double)
declare i64 @given(i64)
define double @root(double %x) {
  %y = call double @cbrt(double %x)
  ret double %y
}
define i64 @ask(i64 %x) {
  %y = call i64 @given(i64 %x)
  ret i64 %y
}
"""
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def call(address: int) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(address)())


def test_many_modules_have_their_own_functions(cache: object) -> None:
    libraries = compile_many([(ANSWER.format(i), f"answer {i}") for i in range(20)])
    assert [call(library.address("answer")) for library in libraries] == list(range(20))


def test_the_same_text_is_one_library(cache: object) -> None:
    first, again = compile_many([(ANSWER.format(1), "a"), (ANSWER.format(1), "b")])
    assert first is again is compile_ir(ANSWER.format(1), "c")


def test_symbols_come_from_the_process_and_from_the_caller(cache: object) -> None:
    for factor in (2, 3):  # the same text with another symbol is another library
        given = CALLBACK(lambda x, factor=factor: factor * x)
        address = ctypes.cast(given, ctypes.c_void_p).value
        library = compile_ir(OUTSIDE, "outside", {"given": address})
        root = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address("root"))
        assert math.isclose(root(27.0), 3.0)
        assert CALLBACK(library.address("ask"))(7) == 7 * factor


def test_a_missing_symbol_is_an_error(cache: object) -> None:
    with pytest.raises(RuntimeError, match="outside does not link"):
        compile_ir(OUTSIDE, "outside")
    compile_ir(OUTSIDE, "outside", {"given": 1})


def test_a_missing_function_lists_the_others(cache: object) -> None:
    with pytest.raises(LookupError, match=r"one has no function 'question'; it has answer"):
        compile_ir(ANSWER.format(1), "one").address("question")


def test_internal_functions_are_inlined_or_kept_inside(cache: object) -> None:
    text = "define internal i64 @in() alwaysinline {\n  ret i64 5\n}\n" + ANSWER.replace("{}", "%x").format().replace(
        "{\n", "{\n  %x = call i64 @in()\n"
    )
    library = compile_ir(text, "inline")
    assert list(library.addresses) == ["answer"]
    assert call(library.address("answer")) == 5


def test_globals_of_a_module_are_its_own(cache: object) -> None:
    text = """
    @n = internal global i64 {}
    define i64 @next() {{
      %n = load i64, ptr @n
      %m = add i64 %n, 1
      store i64 %m, ptr @n
      ret i64 %m
    }}"""
    one, ten = compile_many([(text.format(1), "one"), (text.format(10), "ten")])
    assert [call(one.address("next")) for _ in range(3)] == [2, 3, 4]
    assert call(ten.address("next")) == 11


# fmt: off
ERRORS = [
    ("define void @f( {",                                                    r"bad, line 1: expected type"),
    ("define void @f() {\n  %a = add i32 %b, 1\n  ret void\n}",              r"bad, line 2: use of undefined value '%b'\n  %a = add"),
    ("define i32 @f() {\n  ret void\n}",                                     r"bad, line 2: value doesn't match"),
    ("define i32 @f(i1 %c) {\n  br i1 %c, label %a, label %b\na:\n  %x = add i32 1, 2\n  br label %b\nb:\n"
     "  %y = add i32   %x, 1\n  ret i32 %y\n}",                              r"(?s)dominate.*line 4:.*line 7:"),
]
# fmt: on


@pytest.mark.parametrize("text, message", ERRORS)
def test_an_error_shows_the_line(cache: object, text: str, message: str) -> None:
    with pytest.raises(IRError, match=message):
        check_ir(text, "bad")
    with pytest.raises(IRError, match=message):
        compile_ir(text, "bad")


def test_good_ir_passes_the_check() -> None:
    check_ir(OUTSIDE)


def test_one_bad_module_among_many_does_not_spoil_the_next_time(cache: object) -> None:
    good = [(ANSWER.format(i), f"good {i}") for i in range(4)]
    with pytest.raises(IRError):
        compile_many([*good, ("define", "bad")])
    assert [call(library.address("answer")) for library in compile_many(good)] == [0, 1, 2, 3]


def test_threads_may_compile_at_once(cache: object) -> None:
    results: dict[int, int] = {}

    def work(i: int) -> None:
        results[i] = call(compile_ir(ANSWER.format(i % 3), "same").address("answer"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: i % 3 for i in range(9)}


def test_assembly_names_the_function() -> None:
    assert "answer:" in machine.assembly(ANSWER.format(1))
