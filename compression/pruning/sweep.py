"""SparseGPT's walk over the columns: tiles of the factor, blocks, blocks in blocks, single columns.

`sparsegpt` has the equations. Everything here has inputs first, [I O]: a column of the paper is a row in memory.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compression.pruning import selection, triangular
from compression.pruning.factor import Factor, with_whole_blocks
from compression.pruning.grids import Grid


class Plan(NamedTuple):
    """The static part of a pruning: it decides which program is compiled.

    widths: nested blocks of columns, widest first; each divides the one before.
    mask_width: the one of them whose mask is chosen at once.
    pattern: (n, m) to keep n of every m inputs, or None to drop a given number of weights in each mask block.
    compatible: drop by the public code's threshold.
    """

    widths: tuple[int, ...]
    mask_width: int
    pattern: tuple[int, int] | None
    compatible: bool


class Layer(NamedTuple):
    """What every step reads of a layer.

    scale: 1 / U_ii of each input, then 1 for the columns that fill up the last block.
    counts: how many weights to drop in each mask block.
    grid: the values that kept weights may take; None for any.
    num_inputs: the number of inputs.
    """

    scale: Float[Array, " J"]
    counts: Int[Array, " M"]
    grid: Grid | None
    num_inputs: int


class Block(NamedTuple):
    """Some columns after pruning: the weights, which of them were dropped, and the errors (w - pruned) / U_ii."""

    pruned: Float[Array, "I O"]
    dropped: Bool[Array, "I O"]
    errors: Float[Array, "I O"]


class Tile(NamedTuple):
    """A tile's columns while its blocks are pruned in turn; rows still to come are 0. `loss` sums over all tiles."""

    pruned: Float[Array, "I O"]
    dropped: Bool[Array, "I O"]
    changed: Float[Array, "I O"]
    loss: Float[Array, ""]


@functools.partial(jax.jit, static_argnames="plan")
@jax.default_matmul_precision("highest")
def prune_tiles(
    weight: Float[Array, "I O"], factor: Factor, counts: Int[Array, " M"], grid: Grid | None, plan: Plan
) -> tuple[Float[Array, "I O"], Bool[Array, "I O"], Float[Array, ""]]:
    """Prune the columns of one tile of the factor after the other: (pruned, kept, loss)."""
    block = plan.widths[0]
    tiles = with_whole_blocks(factor.tiles, block)
    original = jnp.where(factor.alive[:, None], weight, 0.0)
    diagonals = [jnp.diagonal(row[-1]) for row in tiles]
    layer = Layer(jnp.concatenate([*diagonals, jnp.ones(block, jnp.float32)]), counts, grid, len(weight))
    finished: list[Tile] = []
    loss = jnp.zeros((), jnp.float32)
    for *left, corner in tiles:
        start, width = sum(len(tile.pruned) for tile in finished), len(corner)
        received = sum((part @ tile.changed for part, tile in zip(left, finished, strict=True)), jnp.float32(0))
        received = jnp.broadcast_to(received, (width, weight.shape[1]))
        finished.append(prune_tile(plan, layer, start, original[start : start + width], received, corner, loss))
        loss = finished[-1].loss
    pruned = jnp.concatenate([tile.pruned for tile in finished])
    dropped = jnp.concatenate([tile.dropped for tile in finished])
    return pruned, ~dropped, loss


def prune_tile(
    plan: Plan,
    layer: Layer,
    start: int,
    original: Float[Array, "I O"],
    received: Float[Array, "I O"],
    corner: Float[Array, "I I"],
    loss: Float[Array, ""],
) -> Tile:
    """Prune a tile's columns, block after block.

    start: index of the tile's first column. received: the sum over earlier tiles of (w_i - pruned_i) L_Si.
    corner: the tile of L on the diagonal. loss: that of the tiles before.
    """
    width, block = len(corner), plan.widths[0]
    fill = -width % block  # columns of weight 0 and L = identity fill up the last block and change nothing
    original, received = (jnp.pad(x, ((0, fill), (0, 0))) for x in (original, received))
    corner = jax.scipy.linalg.block_diag(corner, jnp.eye(fill, dtype=jnp.float32))
    zeros = jnp.zeros_like(original)

    def step(number: Array, tile: Tile) -> Tile:
        return prune_block(plan, layer, start, number * block, original, received, corner, tile)

    tile = Tile(zeros, jnp.zeros(original.shape, bool), zeros, loss)
    tile = jax.lax.fori_loop(0, len(original) // block, step, tile)
    return Tile(tile.pruned[:width], tile.dropped[:width], tile.changed[:width], tile.loss)


def prune_block(
    plan: Plan,
    layer: Layer,
    start: int,
    at: Int[Array, ""],
    original: Float[Array, "I O"],
    received: Float[Array, "I O"],
    corner: Float[Array, "I I"],
    tile: Tile,
) -> Tile:
    """Prune the block of columns at row `at` of its tile; the other arguments are those of `prune_tile`."""
    size = plan.widths[0]
    rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=at, slice_size=size)
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=at, axis=0)
    solve = triangular.inverse(jax.lax.dynamic_slice(corner, (at, at), (size, size)))
    # `changed` is 0 for rows still to come, so that the product may read the whole tile
    current = rows(original) + solve @ (rows(received) + rows(corner) @ tile.changed)
    block = sweep(plan, layer, 0, start + at, current, solve, rows(tile.dropped))
    return Tile(
        put(tile.pruned, block.pruned),
        put(tile.dropped, block.dropped),
        put(tile.changed, rows(original) - block.pruned),
        tile.loss + jnp.square(block.errors).sum() / 2,
    )


def sweep(
    plan: Plan,
    layer: Layer,
    depth: int,
    start: Int[Array, ""],
    current: Float[Array, "I O"],
    solve: Float[Array, "I I"],
    dropped: Bool[Array, "I O"],
) -> Block:
    """Prune a block of width plan.widths[depth] by pruning the narrower blocks in it from left to right.

    One product takes the errors of a block's earlier parts to the next part.
    start: index of its first column. current: its weights after the updates from all columns before it.
    solve: U_SS^T. dropped: its mask, where that is already chosen.
    """
    if plan.widths[depth] == plan.mask_width:
        dropped = choose_dropped(plan, layer, start, current)
    if depth == len(plan.widths) - 1:
        return prune_columns(layer, start, current, solve, dropped)
    width = plan.widths[depth + 1]

    def step(i: Array, block: Block) -> Block:
        rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=i * width, slice_size=width)
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * width, axis=0)
        now = rows(current) - rows(solve) @ block.errors
        corner = jax.lax.dynamic_slice(solve, (i * width, i * width), (width, width))
        part = sweep(plan, layer, depth + 1, start + i * width, now, corner, rows(block.dropped))
        return Block(*map(put, block, part))

    zeros = jnp.zeros_like(current)
    return jax.lax.fori_loop(0, plan.widths[depth] // width, step, Block(zeros, dropped, zeros))


def choose_dropped(plan: Plan, layer: Layer, start: Int[Array, ""], current: Float[Array, "I O"]) -> Bool[Array, "I O"]:
    """Choose which weights of a mask block to drop, by |w| / U_ii."""
    inputs = start + jnp.arange(len(current))
    scores = jnp.abs(current) * layer.scale[inputs, None]
    if plan.pattern:
        return selection.in_groups(scores, plan.pattern)
    scores = jnp.where(inputs[:, None] < layer.num_inputs, scores, jnp.inf)
    select = selection.up_to_threshold if plan.compatible else selection.smallest
    return select(scores, layer.counts[start // plan.mask_width])


def prune_columns(
    layer: Layer,
    start: Int[Array, ""],
    current: Float[Array, "I O"],
    solve: Float[Array, "I I"],
    dropped: Bool[Array, "I O"],
) -> Block:
    """Prune columns one by one; the columns still to come compensate each error at once. Arguments as for `sweep`."""
    later = jnp.tril(solve, -1)

    def step(i: Array, now: Float[Array, "I O"]) -> Float[Array, "I O"]:
        error = (now[i] - pruned_value(layer.grid, now[i], dropped[i])) * layer.scale[start + i]
        return now - later[:, i, None] * error

    final = jax.lax.fori_loop(0, len(current), step, current)
    pruned = pruned_value(layer.grid, final, dropped)
    scale = jax.lax.dynamic_slice_in_dim(layer.scale, start, len(current))
    return Block(pruned, dropped, (final - pruned) * scale[:, None])


def pruned_value(grid: Grid | None, weight: Float[Array, "*B O"], dropped: Bool[Array, "*B O"]) -> Float[Array, "*B O"]:
    """Return 0 for what is dropped, and of the rest the weight or its nearest grid value."""
    weight = jnp.where(dropped, 0.0, weight)
    return weight if grid is None else grid.nearest(weight)
