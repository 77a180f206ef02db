"""One colour for each kind of model in all figures; they differ in lightness too (Okabe and Ito's palette)."""

MODELS = {
    "transformer": "#0072B2",
    "LSTM": "#D55E00",
    "transformer, 4 layers": "#009E73",
    "transformer, 12 layers": "#0072B2",
    "transformer, 16 layers": "#CC79A7",
}
