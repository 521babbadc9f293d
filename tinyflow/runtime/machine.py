"""Machine code: LLVM IR text in, addresses of functions out.

    Source  := key, name, text
    Source  -- parse, optimise, emit --> Object      what the disk keeps
    Object  -- link ------------------> Library      stays in the process to its end, so that addresses stay good

The text comes tiled and vectorised: nothing here unrolls or vectorises.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm

from tinyflow.core.config import default_threads
from tinyflow.core.threads import helpers, lock_over_fork, side_by_side
from tinyflow.runtime import objects
from tinyflow.runtime.objects import Object
from tinyflow.runtime.target import Target, current, host_arch, rows, runs_here

PIPELINE = "always-inline, sroa, instcombine, simplify-cfg, loop-rotate, global-dce; codegen 3, small, pic"
LLVM = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"
PARSE_ERROR = re.compile(r"<string>:(\d+):(\d+): error: (.*)")
NO_SYMBOLS: Mapping[str, int] = MappingProxyType({})


class IRError(ValueError):
    """LLVM IR that does not parse or does not verify."""


class Source(NamedTuple):
    key: str
    name: str
    text: str


class Library:
    """The functions of one linked module."""

    __slots__ = ("addresses", "name", "tracker")

    def __init__(self, name: str, addresses: dict[str, int], tracker: object) -> None:
        self.name, self.addresses, self.tracker = name, addresses, tracker

    def address(self, function: str) -> int:
        if function not in self.addresses:
            raise LookupError(f"{self.name} has no function {function!r}; it has {', '.join(self.addresses)}")
        return self.addresses[function]


MEMORY: dict[tuple[str, tuple[tuple[str, int], ...]], Library] = {}
BEGUN: dict[str, Callable[[], Object]] = {}  # waits for what another thread makes, by key
IDLE: dict[Target, list[Any]] = {}  # target machines that no thread is using; making one takes 0.7 ms
NUMBERS = itertools.count()
LOCK = lock_over_fork()


def compile_ir(text: str, name: str, symbols: Mapping[str, int] = NO_SYMBOLS) -> Library:
    """The module linked into this process. `symbols` are addresses for functions that it declares."""
    return compile_many([(text, name)], symbols)[0]


def compile_many(modules: Iterable[tuple[str, str]], symbols: Mapping[str, int] = NO_SYMBOLS) -> list[Library]:
    """The modules, given as (text, name): from memory, from disk, or compiled, several at once."""
    with LOCK:
        target = runnable(current())
        sources = [Source(objects.key_of(text, made_by(target)), name, text) for text, name in modules]
        imports = tuple(sorted(symbols.items()))
        absent = list({source.key: source for source in sources if (source.key, imports) not in MEMORY}.values())
        for source, made in zip(absent, made_objects(absent, target), strict=True):
            MEMORY[source.key, imports] = link(source.name, made, symbols)
        return [MEMORY[source.key, imports] for source in sources]


@contextmanager
def early() -> Iterator[Callable[[str, str], None]]:
    """`with early() as begin:` begin(text, name) has a module made by another thread, while the caller writes the next one.
    At the end all are made, and `compile_many` finds them."""
    with LOCK, helpers(default_threads()) as start:
        target = runnable(current())

        def begin(text: str, name: str) -> None:
            source = Source(objects.key_of(text, made_by(target)), name, text)
            if source.key not in BEGUN and (source.key, ()) not in MEMORY and objects.load(source.key) is None:
                BEGUN[source.key] = start(partial(build, source, target))

        BEGUN.clear()  # of a program that was given up
        yield begin


@cache
def made_by(target: Target) -> str:
    """All that the code of a given text depends on."""
    return repr((PIPELINE, LLVM, target))


def made_objects(sources: list[Source], target: Target) -> list[Object]:
    """The object code of each, from disk where there is some."""
    start = time.perf_counter()
    found = {source.key: made for source in sources if (made := objects.load(source.key))}
    missing = [source for source in sources if source.key not in found]
    waits = [BEGUN.pop(source.key, partial(build, source, target)) for source in missing]
    for source, made in zip(missing, side_by_side(lambda wait: wait(), waits, default_threads()), strict=True):
        objects.store(source.key, made)
        found[source.key] = made
    if sources:
        took = (time.perf_counter() - start) * 1e3
        objects.log(f"modules: {len(sources) - len(missing)} from disk, {len(missing)} compiled, {took:.1f} ms")
    return [found[source.key] for source in sources]


def runnable(target: Target) -> Target:
    if not runs_here(target):
        raise RuntimeError(
            f"TARGET={target.name!r} is code that this {host_arch()} machine cannot run; "
            f"look at it with assembly(), or write another of {rows()}"
        )
    return target


def build(source: Source, target: Target) -> Object:
    """Parse, optimise and emit. Other threads may build at the same time: each has its own LLVM context."""
    machine = take_machine(target)
    module = parse(source.text, source.name, target, machine)
    optimise(module, machine)
    names = tuple(f.name for f in module.functions if not f.is_declaration and f.linkage == llvm.Linkage.external)
    code = emit_object(machine, module)
    IDLE[target].append(machine)
    return Object(names, code)


def parse(text: str, name: str, target: Target, machine: Any) -> Any:
    """The verified module of the text, laid out for the target."""
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.triple, module.data_layout = target.triple, str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise IRError(explain(text, name, str(error))) from None
    return module


def optimise(module: Any, machine: Any) -> None:
    """The passes that pay. The text names each value once, in the loop that it belongs to: LLVM's usual list finds nothing more,
    and takes twice as long."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    inline, clean = llvm.create_new_module_pass_manager(), llvm.create_new_module_pass_manager()
    inline.add_always_inliner_pass()
    clean.add_global_dead_code_eliminate_pass()
    inline.run(module, builder)
    simplify, run = llvm.create_new_function_pass_manager(), unguarded("LLVMPY_RunNewFunctionPassManager")
    simplify.add_sroa_pass()
    simplify.add_instruction_combine_pass()
    simplify.add_simplify_cfg_pass()
    simplify.add_loop_rotate_pass()
    for function in module.functions:
        if not function.is_declaration:
            run(simplify, function, builder)
    clean.run(module, builder)


def emit_object(machine: Any, module: Any) -> bytes:
    lib, error = llvm.ffi.lib, ctypes.c_char_p()
    buffer = unguarded("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, ctypes.byref(error))
    if not buffer:
        raise RuntimeError(f"LLVM emitted nothing: {error.value!r}")
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


@cache
def unguarded(name: str) -> Callable[..., Any]:
    """llvmlite's function without its lock, which lets one thread in at a time; LLVM asks for one thread a context."""
    guarded = getattr(llvm.ffi.lib, name)
    function: Any = getattr(ctypes.CDLL(llvm.ffi.lib._name), name)
    function.argtypes, function.restype = guarded.argtypes, guarded.restype
    return function  # type: ignore[no-any-return]


def link(name: str, made: Object, symbols: Mapping[str, int]) -> Library:
    """The object in executable memory, its outside names found among `symbols` and in the process."""
    builder = llvm.JITLibraryBuilder().add_object_img(made.code).add_current_process()
    for symbol, address in symbols.items():
        builder.import_symbol(symbol, address)
    for function in made.names:
        builder.export_symbol(function)
    try:
        tracker = builder.link(linker(), f"{name} {next(NUMBERS)}")
    except RuntimeError as error:
        raise RuntimeError(f"{name} does not link: {error}") from None
    return Library(name, {function: tracker[function] for function in made.names}, tracker)


@cache
def linker() -> Any:
    start_llvm()
    # JITLink gives a module one block of memory, so the small code model reaches all of it on every processor.
    return llvm.create_lljit_compiler(make_machine(current()), use_jit_link=True)


def take_machine(target: Target) -> Any:
    try:
        return IDLE.setdefault(target, []).pop()
    except IndexError:
        return make_machine(target)


def make_machine(target: Target) -> Any:
    start_llvm()
    if target.arch != host_arch():
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    made = llvm.Target.from_triple(target.triple)
    return made.create_target_machine(target.cpu, target.features, opt=3, reloc="pic", codemodel="small", jit=True)


@cache
def start_llvm() -> None:
    atexit.register(LOCK.acquire, timeout=2)  # LLVM's own end must not meet a thread that still compiles
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def check_ir(text: str, name: str = "module") -> None:
    """Raise IRError, with the line at fault, unless the text parses and verifies."""
    with LOCK:
        target = current()
        parse(text, name, target, make_machine(target))


def assembly(text: str, name: str = "module", target: Target | None = None) -> str:
    """The assembly of the module, for the eye; the target may be one that this machine cannot run."""
    with LOCK:
        target = target or current()
        machine = make_machine(target)
        module = parse(text, name, target, machine)
        optimise(module, machine)
        return str(machine.emit_assembly(module))


def explain(text: str, name: str, error: str) -> str:
    """LLVM's complaint with the line of the text that it is about."""
    lines = text.splitlines()
    found = PARSE_ERROR.search(error)
    if found:
        number, column, complaint = int(found[1]), int(found[2]), found[3]
        return f"{name}, line {number}: {complaint}\n{lines[number - 1]}\n{' ' * (column - 1)}^"
    numbers = {" ".join(line.split()): number for number, line in enumerate(lines, 1)}
    cited = [(numbers.get(" ".join(line.split())), line) for line in error.splitlines() if line.strip()]
    return f"{name}: " + "\n".join(f"line {number}: {line}" if number else line for number, line in cited)


def triple() -> str:
    return str(llvm.get_process_triple())


def cpu_name() -> str:
    return str(llvm.get_host_cpu_name())


@cache
def cpu_features() -> Mapping[str, bool]:
    """The processor's features by LLVM's names."""
    return MappingProxyType(dict(llvm.get_host_cpu_features()))
