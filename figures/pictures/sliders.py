"""Pictures that follow sliders, for the notebooks."""

import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def play(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Sliders and the picture that `draw` makes of their values; it is drawn again whenever one moves."""
    picture = ipywidgets.Image(format="png")

    def show(_: object = None) -> None:
        figure = draw(**{name: control.value for name, control in controls.items()})
        file = io.BytesIO()
        figure.savefig(file, format="png")
        plt.close(figure)
        picture.value = file.getvalue()

    for control in controls.values():
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([*controls.values(), picture])
