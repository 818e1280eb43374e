"""Machine code for this machine and for others, by LLVM: object files that need neither numba nor python."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A variable that numba leaves in each module and nothing here reads.
_NUMBAS = re.compile(r"^@_ZN08NumbaEnv\S* = common .*$", re.MULTILINE)
#: Attributes of functions that name the processor they were compiled for.
_OF_A_PROCESSOR = re.compile(r' "(?:target-cpu|target-features|tune-cpu|probe-stack)"="[^"]*"')
_HEAD = re.compile(r'^target (?:triple|datalayout) = "[^"]*"$', re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """A kind of machine in LLVM's words; the empty triple is this machine with all its instructions."""

    triple: str
    processor: str = ""
    features: str = ""


#: Where code can be exported to. x86_64 is the third level of the architecture: AVX2 and FMA, processors since 2013.
TARGETS = {
    "native": Target(""),
    "x86_64": Target("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "aarch64": Target("aarch64-unknown-linux-gnu", "generic"),
    "wasm32": Target("wasm32-unknown-unknown", "generic", "+simd128,+bulk-memory"),
}


def object_code(text: str, target: Target) -> bytes:
    """An object file of LLVM's text, position independent."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = target.triple or llvm.get_process_triple()
    processor = target.processor or llvm.get_host_cpu_name()
    features = target.features or ("" if target.triple else llvm.get_host_cpu_features().flatten())
    machine = llvm.Target.from_triple(triple).create_target_machine(processor, features, opt=3, reloc="pic")
    text = _OF_A_PROCESSOR.sub("", _HEAD.sub("", _NUMBAS.sub("", text)))
    module = llvm.parse_assembly(f'target datalayout = "{machine.target_data}"\ntarget triple = "{triple}"\n{text}')
    return bytes(machine.emit_object(module))
