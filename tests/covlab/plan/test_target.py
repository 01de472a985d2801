"""Targets: what names one, the figures of the chips, and compilers that are not installed."""

from __future__ import annotations

import math

import jax
import pytest

from covlab.plan import target
from covlab.plan.target import NotInstalledError, gpu_configuration, known_chips, target_of


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("v5e", "v5e:1x1", 1),
        ("v5e:2x2", "v5e:2x2", 4),
        ("v5p:2x2x1", "v5p:2x2x1", 4),
        ("h100", "h100:1", 1),
        ("h200:8", "h200:8", 8),
        ("cpu", "cpu:1", 1),
    ],
)
def test_a_text_names_a_chip_and_how_many(text: str, name: str, count: int) -> None:
    found = target_of(text)
    assert (found.name, found.count) == (name, count)
    assert target_of(found.name) == found


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("v7", "a100, cpu, h100, h200, v5e, v5p, v6e"),
        ("", "v5e:2x2 or h100:8"),
        ("None", "v5e:2x2"),
        ("v5e:", "v5e:1x1"),
        ("v5e:0x2", "v5e:1x1"),
        ("v5e:-1x2", "v5e:1x1"),
        ("h100:nan", "h100:1"),
        ("v5e:4", "2, as in 1x1"),
        ("h100:2x2", "1, as in 1"),
    ],
)
def test_another_text_is_refused_in_one_line(text: str, valid: str) -> None:
    with pytest.raises(ValueError, match=r"^target: ") as error:
        target_of(text)
    assert valid in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", known_chips())
def test_the_figures_of_a_chip_are_in_the_units_they_are_meant_in(name: str) -> None:
    chip = target_of(name).chip
    assert 0 < chip.usable <= 1
    assert chip.platform in ("tpu", "gpu", "cpu")
    if chip.platform == "cpu":
        assert chip.bytes > 2**30
        return
    assert chip.peak["bfloat16"] >= chip.peak["float32"] > 1e13
    assert chip.bandwidth is not None
    assert 1e11 < chip.bandwidth < 1e13
    assert chip.memory is not None
    assert chip.bytes == pytest.approx(chip.usable * chip.memory * 2**30)
    if chip.platform == "gpu":
        # One fact each, stated to people and to the compiler.
        assert chip.compiler["device_memory_size"] == pytest.approx(chip.memory * 2**30, rel=1e-3)
        assert chip.compiler["memory_bandwidth"] == pytest.approx(chip.bandwidth, rel=1e-3)


def test_the_clock_is_the_one_at_which_the_matrix_units_reach_the_peak() -> None:
    """v5e: four units of 128 x 128 multiply-adds at 1.5 GHz are 197 TFLOP/s."""
    clock = target_of("v5e").chip.clock
    assert clock is not None
    assert clock * 2 * 4 * 128 * 128 == pytest.approx(197e12)
    assert clock == pytest.approx(1.5e9, rel=0.01)
    assert target_of("h100").chip.clock is None


def test_a_gpus_description_is_text_of_nested_fields() -> None:
    text = gpu_configuration(target_of("h100").chip)
    assert "\ncore_count: 132\n" in text
    assert "\ncuda_compute_capability { major: 9 }\n" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(("text", "extra"), [("v5e", "tpu"), ("a100:2", "cuda")])
def test_a_compiler_that_is_not_installed_is_one_line(
    text: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_is_installed", lambda module: False)
    with pytest.raises(NotInstalledError, match=rf"^target: .* pip install 'covlab\[{extra}\]'") as error:
        target_of(text).devices()
    assert "\n" not in str(error.value)


def test_a_module_of_a_package_that_is_not_there_is_not_installed() -> None:
    assert target._is_installed("json")
    assert not target._is_installed("no_such_package.plugin")


def test_this_machine_needs_no_description() -> None:
    assert target_of("cpu").devices() == tuple(jax.devices("cpu")[:1])
    with pytest.raises(ValueError, match="more devices than the"):
        target_of("cpu:9999").devices()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "kind"),
    [("v5e:2x2", "TPU v5 lite"), ("v6e", "TPU v6 lite"), ("v5p", "TPU v5"), ("h100:4", "H100")],
)
def test_an_installed_compiler_describes_the_devices(text: str, kind: str) -> None:
    found = target_of(text)
    try:
        devices = found.devices()
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert len(devices) == found.count
    assert kind in devices[0].device_kind
    assert devices[0].platform == found.chip.platform
    assert math.prod(found.shape) == len(devices)
