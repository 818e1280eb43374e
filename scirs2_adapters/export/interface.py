"""The C interface of exported kernels: a header to include, and a source file that calls them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from string import Template

from scirs2_adapters.core.cpu.layout import Item
from scirs2_adapters.core.document import range_of
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.program.passes import Operand, Pass
from scirs2_adapters.core.slots import Extent, Slot

from .kernels import Kernels
from .scalars import Lines, literal

C_TYPES = {"float64": "double", "float32": "float", "float16": "uint16_t", "bfloat16": "uint16_t"}

HEADER = Template("""\
/* $title, exported by scirs2 $version.
$formula
 *
$arrays
 * Compile the source file with -ffp-contract=off for the very numbers of the python package. */
#ifndef ${capitals}_H
#define ${capitals}_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Hyperparameters. They may change from step to step. */
typedef struct {
$members
} ${name}_hyper;

#define ${capitals}_DEFAULTS {$defaults}

/* Fills the memory of n numbers before their first step. */
$begin;

/* One step of n numbers in place. `step` counts from 1. Threads may step parts of a tensor at the same time$parts. */
$step;

#ifdef __cplusplus
}
#endif
#endif
""")

SOURCE = Template("""\
/* Exported by scirs2 $version; see $name.h. */
#include "$name.h"
#include <math.h>

#define AT(x) ((int64_t)(intptr_t)(x))

$kernels

$begin {
    (void)p, (void)n, (void)hyper;
$begun
}

$step {
$body
}
""")


class Interface:
    """The text of both files. `name` begins all names in them."""

    def __init__(self, kernels: Kernels, version: str) -> None:
        self.kernels, self.rule = kernels, kernels.rule
        self.name, self.version = f"scirs2_{kernels.rule.name}", version
        of_numbers = {k: f for k, f in self.rule.fields.items() if f.kind in (int, float) and not f.static}
        self.fields: dict[str, Field] = {k: f for k, f in of_numbers.items() if getattr(self.rule, k) is not None}

    def header(self) -> str:
        """What a program includes."""
        formula = textwrap.dedent((self.rule.text or "").partition("\n\n")[2].partition("\n\n")[0])
        return self._filled(
            HEADER,
            capitals=self.name.upper(),
            title=type(self.rule).__name__,
            formula=textwrap.indent(formula, " * "),
            arrays="\n".join(f" * {line}" for line in self._memory()),
            members="\n".join(f"    double {k}; /* {f.means}; {range_of(f)} */" for k, f in self.fields.items()),
            defaults=", ".join(literal(getattr(self.rule, k)) for k in self.fields),
            parts=", each with slots of one number of its own" if self.kernels.before else "",
        )

    def source(self) -> str:
        """What calls the kernels."""
        takes = "(int64_t arrays, int64_t item, int64_t coefficients, int64_t sums)"
        return self._filled(
            SOURCE,
            kernels="\n".join(f"void *{name}{takes};" for name in self.passes()),
            begun=textwrap.indent("\n".join(map(self._begun, self.kernels.slots)), "    "),
            body=textwrap.indent("\n".join(self._body()), "    "),
        )

    def passes(self) -> dict[str, Pass]:
        """The kernels by their names in C."""
        both = {f"{self.name}_kernel": self.kernels.step, f"{self.name}_numbers": self.kernels.before}
        return {name: this for name, this in both.items() if this}

    def _filled(self, template: Template, **parts: str) -> str:
        hyper = f"const {self.name}_hyper *hyper"
        begin = f"void {self.name}_begin({self._parameters(False)}, int64_t n, {hyper})"
        step = f"void {self.name}_step({self._parameters(True)}, int64_t n, {hyper}, int64_t step)"
        return template.substitute(parts, name=self.name, version=self.version, begin=begin, step=step)

    def _parameters(self, gradient: bool) -> str:
        dtypes = self.kernels.dtypes
        arrays = [f"{'' if gradient else 'const '}{C_TYPES[dtypes['p']]} *p"]
        arrays += [f"const {C_TYPES[dtypes['g']]} *g"] if gradient else []
        arrays += [f"{C_TYPES[dtypes[s.name]]} *{s.name}" for s in self.kernels.slots]
        return ", ".join(arrays)

    def _memory(self) -> Iterable[str]:
        for name, dtype in self.kernels.dtypes.items():
            numbers = "one number" if name in self._single() else "n numbers"
            yield f"{name}: {numbers}, {dtype}"

    def _single(self) -> set[str]:
        return {s.name for s in self.kernels.slots if s.extent is Extent.TENSOR}

    def _body(self) -> list[str]:
        """A step: coefficients in float64, then the passes."""
        kernels, lines, prefix, compute = self.kernels, Lines(), self.name, C_TYPES[self.kernels.compute]
        numbers = kernels.numbers(lines, self.fields, "hyper->", "(double)step")
        body = lines.needed_for(numbers)
        if kernels.before is None:
            narrow = numbers if compute == "double" else [f"(float){number}" for number in numbers]
            body.append(f"const {compute} coefficients[] = {{{', '.join(narrow)}}};")
        else:
            width = len(kernels.step.coefficients)
            body.append(f"const double scalars[] = {{{', '.join(numbers)}}};")
            body.append(f"double made[{width}];")
            body += _call(f"{prefix}_numbers", kernels.before.arrays, "1", "scalars", "AT(made)")
            body.append(f"{compute} coefficients[{width}];")
            body.append(f"for (int k = 0; k < {width}; k++) coefficients[k] = ({compute})made[k];")
        return body + _call(f"{prefix}_kernel", kernels.step.arrays, "n", "coefficients", "0")

    def _begun(self, slot: Slot) -> str:
        """The loop that gives a slot its first value. Numbers of 16 bits begin with 0, or as a copy of 16 bits."""
        dtypes, copied, value = self.kernels.dtypes, slot.initial == "parameter", slot.initial_value(self.rule)
        if C_TYPES[dtypes[slot.name]] == "uint16_t" and (dtypes["p"] != dtypes[slot.name] if copied else value != 0):
            worded = "must be float32 or float64 for a slot that does not begin with zeros"
            raise bad_value("export", "dtypes", worded, f"{dtypes[slot.name]} for {slot.name}")
        first = f"hyper->{slot.initial}" if slot.initial in self.fields else literal(value)
        count = "1" if slot.name in self._single() else "n"
        return f"for (int64_t i = 0; i < {count}; i++) {slot.name}[i] = {'p[i]' if copied else first};"


def _call(kernel: str, arrays: Iterable[Operand], count: str, coefficients: str, sums: str) -> list[str]:
    """The call of a kernel on so many numbers: one row of them."""
    stem = kernel.rpartition("_")[2]
    words = {Item.ROWS: "1", Item.COLUMNS: count}
    return [
        f"const int64_t {stem}_arrays[] = {{{', '.join(f'AT({a.name})' for a in arrays)}}};",
        f"const int64_t {stem}_item[] = {{{', '.join(words.get(word, '0') for word in Item)}}};",
        f"{kernel}(AT({stem}_arrays), AT({stem}_item), AT({coefficients}), {sums});",
    ]
