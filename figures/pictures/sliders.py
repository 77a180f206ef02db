"""Pictures that follow sliders: live where a kernel runs, from frames drawn beforehand on a page without one."""

import base64
import io
import itertools
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from figures.lab.notebooks import few_colors

WIDGET = "application/vnd.jupyter.widget-view+json"
PAGE = """<div id="{name}">
<img alt="{words}" style="max-width: 100%" src="data:image/png;base64,{first}">
{controls}
<script>
(() => {{
  const box = document.getElementById("{name}"), frames = {frames};
  const inputs = Array.from(box.querySelectorAll("input")), values = {values};
  const show = () => {{
    const places = inputs.map(input => Number(input.value));
    inputs.forEach((input, i) => {{ input.nextElementSibling.textContent = values[i][places[i]]; }});
    const at = places.reduce((sum, place, i) => sum * values[i].length + place, 0);
    box.querySelector("img").src = "data:image/png;base64," + frames[at];
  }};
  inputs.forEach(input => input.addEventListener("input", show));
}})();
</script></div>"""
CONTROL = (
    '<label style="display: block">{name} <input type="range" min="0" max="{last}" value="{start}"> '
    "<output>{value}</output></label>"
)


def play(draw: Callable[..., Figure], start: dict[str, Any], **choices: Sequence[Any]) -> None:
    """Show a picture with a slider for each argument of `draw`.

    Args:
        draw: The picture of one value of each argument.
        start: The values that are shown first; the first choice of what is not named.
        choices: All values of each argument. Every combination is drawn once, for pages without a kernel.
    """
    frames = {values: picture(draw, dict(zip(choices, values, strict=True))) for values in combinations(choices)}
    first = tuple(start.get(name, options[0]) for name, options in choices.items())
    widget = live(draw, dict(zip(choices, first, strict=True)), choices)
    bundle = widget._repr_mimebundle_()
    display({WIDGET: bundle[WIDGET], "text/html": page(frames, first, choices)}, raw=True)


def combinations(choices: dict[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    return list(itertools.product(*choices.values()))


def picture(draw: Callable[..., Figure], values: dict[str, Any]) -> bytes:
    """PNG of few colours, a third of the bytes: a page holds all frames."""
    figure, file = draw(**values), io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    plt.close(figure)
    return few_colors(file.getvalue())


def live(draw: Callable[..., Figure], first: dict[str, Any], choices: dict[str, Sequence[Any]]) -> ipywidgets.VBox:
    """Sliders and the picture of their values, drawn again whenever one moves."""
    image = ipywidgets.Image(format="png")
    sliders = {
        name: ipywidgets.SelectionSlider(options=list(options), value=first[name], description=name)
        for name, options in choices.items()
    }

    def show(_: object = None) -> None:
        image.value = picture(draw, {name: slider.value for name, slider in sliders.items()})

    for slider in sliders.values():
        slider.observe(show, "value")
    show()
    return ipywidgets.VBox([*sliders.values(), image])


def page(frames: dict[tuple[Any, ...], bytes], first: tuple[Any, ...], choices: dict[str, Sequence[Any]]) -> str:
    """The same as HTML that needs no kernel."""
    encoded = {values: base64.b64encode(frame).decode() for values, frame in frames.items()}
    controls = [
        CONTROL.format(name=name, last=len(options) - 1, start=list(options).index(value), value=value)
        for (name, options), value in zip(choices.items(), first, strict=True)
    ]
    return PAGE.format(
        name=f"frames-{uuid.uuid4().hex[:8]}",
        words="a picture that follows the sliders",
        first=encoded[first],
        controls="\n".join(controls),
        frames=json.dumps([encoded[values] for values in combinations(choices)]),
        values=json.dumps([[str(value) for value in options] for options in choices.values()]),
    )
