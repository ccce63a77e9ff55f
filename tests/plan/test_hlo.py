"""Reading HLO text: shapes and layouts, instructions, scalars, trip counts."""

import pytest

from selfevo_jax.errors import SelfevoError
from selfevo_jax.plan.hlo import parse, parse_arrays, trip_count

LOOP = """HloModule loop, is_scheduled=true, num_partitions=4

%body (p: (f32[8], {kind}[], {kind}[])) -> (f32[8], {kind}[], {kind}[]) {{
  %one = {kind}[] constant({step})
  %p = (f32[8]{{0:T(256)S(1)}}, {kind}[]{{:T(128)}}, {kind}[]) parameter(0)
  %x = f32[8]{{0}} get-tuple-element(%p), index=0
  %i = {kind}[] get-tuple-element(%p), index=1
  %n = {kind}[] get-tuple-element(%p), index=2
  %c = {kind}[] copy(%i)
  %next = {kind}[] {operation}(%c, %one)
  ROOT %out = (f32[8], {kind}[], /*index=2*/{kind}[]) tuple(%x, %next, %n)
}}

%test.fused (a: {kind}[], b: {kind}[]) -> pred[] {{
  %a = {kind}[] parameter(0)
  %b = {kind}[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction={direction}
}}

%condition (p.1: (f32[8], {kind}[], {kind}[])) -> pred[] {{
  %p.1 = (f32[8], {kind}[], {kind}[]) parameter(0)
  %i.1 = {kind}[] get-tuple-element(%p.1), index=1
  %n.1 = {kind}[] get-tuple-element(%p.1), index=2
  ROOT %go = pred[] fusion(%i.1, %n.1), kind=kLoop, calls=%test.fused
}}

ENTRY %main (x.1: f32[8], given: {kind}[]) -> f32[8] {{
  %x.1 = f32[8] parameter(0)
  %given = {kind}[] parameter(1)
  %start = {kind}[] constant({start})
  %begin = {kind}[] copy(%start)
  %end = {kind}[] constant({end})
  %state = (f32[8], {kind}[], {kind}[]) tuple(%x.1, %begin, %{limit})
  %while.1 = (f32[8], {kind}[], {kind}[]) while(%state), condition=%condition, body=%body{told}
  ROOT %y = f32[8] get-tuple-element(%while.1), index=0
}}
"""

COUNTING = {
    "kind": "s32",
    "step": 1,
    "operation": "add",
    "direction": "LT",
    "start": 0,
    "end": 5,
    "limit": "end",
    "told": "",
}


def trips(**changes):
    module = parse(LOOP.format(**COUNTING | changes))
    main = module.computations[module.entry]
    return trip_count(module, main, main["while.1"])


def test_shapes_keep_layout_tiles_and_memory_space():
    (array,) = parse_arrays("bf16[3,10,200]{2,1,0:T(8,128)(2,1)S(1)}")
    assert (array.dtype, array.dims, array.space) == ("bf16", (3, 10, 200), 1)
    assert array.bytes == 3 * 10 * 200 * 2
    assert array.stored == 3 * 16 * 256 * 2
    assert array.hbm == 0
    first, second, flag = parse_arrays("(f32[4,64,16]{1,2,0:T(8,128)}, /*index=1*/s8[5]{0:T(512)}, u32[]{:S(2)})")
    assert first.stored == first.hbm == 4 * 128 * 16 * 4
    assert second.stored == 512
    assert (flag.bytes, flag.hbm) == (4, 0)


def test_a_type_of_half_a_byte_and_one_that_holds_nothing():
    half, token = parse_arrays("(s4[6], token[])")
    assert (half.bytes, token.bytes) == (3, 0)


def test_instructions_keep_operands_attributes_and_number_of_devices():
    module = parse(LOOP.format(**COUNTING))
    assert (module.devices, module.entry) == (4, "main")
    loop = module.computations["main"]["while.1"]
    assert (loop.opcode, loop.operands, loop.is_tuple) == ("while", ("state",), True)
    assert loop.called("condition", "body") == ["condition", "body"]
    assert module.computations["body"].root == "out"
    assert module.computations["body"]["x"].attribute("index") == "0"


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 5),
        ({"kind": "u32", "start": 1, "end": 16, "step": 4}, 4),
        ({"direction": "LE"}, 6),
        ({"direction": "NE", "end": 12, "step": 3}, 4),
        ({"operation": "subtract", "direction": "GT", "start": 9, "end": 0, "step": 2}, 5),
        ({"start": 7}, 0),
        ({"limit": "given"}, None),
        ({"step": 0}, None),
        ({"limit": "given", "told": ', backend_config={"known_trip_count":{"n":"11"}}'}, 11),
    ],
)
def test_trips_are_run_from_the_scalars_of_a_loop(changes, count, monkeypatch):
    monkeypatch.setattr("selfevo_jax.plan.hlo.MOST_TRIPS", 1000)
    assert trips(**changes) == count


def test_an_instruction_may_go_over_several_lines():
    text = """HloModule m

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8] parameter(0)
  %kernel.1 = f32[8] custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={data={
"sizes":"{1, 2}"
}}, metadata={op_name="here"}
  ROOT %y = f32[8] negate(%kernel.1)
}
"""
    main = parse(text).computations["main"]
    assert (list(main.instructions), main.root) == (["x", "kernel.1", "y"], "y")
    assert main["kernel.1"].op_name == "here"


def test_text_that_is_no_module_is_refused():
    with pytest.raises(SelfevoError, match="no entry computation"):
        parse("module @jit_f {\n}\n")
