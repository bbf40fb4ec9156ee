"""Functions that onnxscript compiles to ONNX: from the raw outputs of "vision" to results.

They compute what the runner and the network's own code compute, for one image. Their bodies are
compiled and not run.

Shapes: A points, C classes, D objects, K prototypes, S semantic classes, P segments; h x w cells of
a canvas H x W; height x width pixels of the results.
"""

from onnxscript import opset20 as op
from onnxscript import script


@script()
def best_class_only(scores):  # (1, A, C) -> (1, A, C)
    best = op.ReduceMax(scores, op.Constant(value_ints=[2]), keepdims=1)
    return op.Where(scores < best, op.CastLike(op.Constant(value_float=0.0), scores), scores)


@script()
def suppress(boxes, scores, score_threshold, overlap, limit):
    """Non-maximum suppression per class; points (D,) and classes (D,) in order of the score."""
    by_class = op.Transpose(scores, perm=[0, 2, 1])  # (1, C, A)
    chosen = op.NonMaxSuppression(boxes, by_class, limit, overlap, score_threshold)  # (n, 3)
    classes = op.Gather(chosen, op.Constant(value_int=1), axis=1)
    points = op.Gather(chosen, op.Constant(value_int=2), axis=1)
    places = op.Concat(
        op.Unsqueeze(points, op.Constant(value_ints=[1])),
        op.Unsqueeze(classes, op.Constant(value_ints=[1])),
        axis=1,
    )
    values = op.GatherND(op.Squeeze(scores, op.Constant(value_ints=[0])), places)  # (n,)
    _, order = op.TopK(values, op.Min(op.Shape(values), limit), axis=0)
    return op.Gather(points, order), op.Gather(classes, order)


@script()
def best_points(boxes, scores, score_threshold, overlap, limit):
    """As `suppress`, of a one-to-one head, which needs no suppression."""
    flat = op.Reshape(scores, op.Constant(value_ints=[-1]))  # (A * C,)
    values, order = op.TopK(flat, op.Min(op.Shape(flat), limit), axis=0)
    above = op.Squeeze(op.NonZero(values > score_threshold), op.Constant(value_ints=[0]))
    order = op.Gather(order, above)
    num_classes = op.Shape(scores, start=2, end=3)
    return order / num_classes, op.Mod(order, num_classes)


@script()
def place_boxes(boxes, scores, points, classes, contents, size):
    """Boxes (D, 4) on the image, their scores, and those of `points` and `classes` on the image."""
    start = op.Slice(contents, op.Constant(value_ints=[0]), op.Constant(value_ints=[2]), [1])
    extent = op.Slice(contents, op.Constant(value_ints=[2]), op.Constant(value_ints=[4]), [1])
    size_y, size_x = op.Split(op.Cast(size, to=1), num_outputs=2)
    image = op.Concat(size_x, size_y, axis=0)  # (2,)
    scale = image / extent  # (1, 2)
    chosen = op.Gather(op.Squeeze(boxes, [0]), points)  # (D, 4)
    moved = (chosen - op.Concat(start, start, axis=1)) * op.Concat(scale, scale, axis=1)
    zero = op.Constant(value_float=0.0)
    placed = op.Min(op.Max(moved, zero), op.Concat(image, image, axis=0))
    low = op.Slice(placed, [0], [2], [1])
    high = op.Slice(placed, [2], [4], [1])
    sides = op.ReduceMin(high - low, [1], keepdims=0)  # (D,)
    visible = op.Squeeze(op.NonZero(sides > zero), [0])
    places = op.Concat(op.Unsqueeze(points, [1]), op.Unsqueeze(classes, [1]), axis=1)
    values = op.GatherND(op.Squeeze(scores, [0]), places)  # (D,)
    return (
        op.Gather(placed, visible),
        op.Gather(values, visible),
        op.Gather(classes, visible),
        op.Gather(points, visible),
        op.Gather(chosen, visible),
    )


@script()
def interpolate(x, position, axis_size):
    """Linear interpolation along the first axis at positions (n,)."""
    lower = op.Floor(position)
    upper = op.Min(lower + 1.0, axis_size - 1.0)
    weight = op.Reshape(position - lower, [-1, 1, 1])
    first = op.Gather(x, op.Cast(lower, to=7), axis=0)
    second = op.Gather(x, op.Cast(upper, to=7), axis=0)
    return first + (second - first) * weight


@script()
def semantic_labels(logits, images, contents, size):
    """The best class of each pixel (height, width), from logits (1, S, h, w)."""
    cells = op.Transpose(op.Squeeze(logits, [0]), perm=[1, 2, 0])  # (h, w, S)
    canvas = op.Cast(op.Shape(images, start=2, end=4), to=1)
    grid = op.Cast(op.Shape(logits, start=2, end=4), to=1)
    left, top, extent_x, extent_y = op.Split(op.Squeeze(contents, [0]), num_outputs=4)
    start = op.Concat(top, left, axis=0) * grid / canvas
    length = op.Concat(extent_y, extent_x, axis=0) * grid / canvas
    # Only cells with their centers in the image are used; if there is none, the one in its middle.
    first = op.Ceil(start - 0.5)
    last = op.Ceil(start + length - 0.5) - 1.0
    middle = op.Floor(start + length / 2.0)
    is_narrow = last < first
    first = op.Where(is_narrow, middle, first)
    last = op.Where(is_narrow, middle, last)
    pixels = op.Cast(size, to=1)
    step = length / pixels
    for_rows = op.Constant(value_ints=[0])
    for_columns = op.Constant(value_ints=[1])
    rows = op.Cast(op.Range(0, op.Squeeze(op.Gather(size, for_rows)), 1), to=1) + 0.5
    columns = op.Cast(op.Range(0, op.Squeeze(op.Gather(size, for_columns)), 1), to=1) + 0.5
    y = rows * op.Gather(step, for_rows) + op.Gather(start, for_rows) - 0.5
    x = columns * op.Gather(step, for_columns) + op.Gather(start, for_columns) - 0.5
    y = op.Min(op.Max(y, op.Gather(first, for_rows)), op.Gather(last, for_rows))
    x = op.Min(op.Max(x, op.Gather(first, for_columns)), op.Gather(last, for_columns))
    tall = interpolate(cells, y, op.Gather(grid, for_rows))  # (height, w, S)
    tall = op.Transpose(tall, perm=[1, 0, 2])
    wide = interpolate(tall, x, op.Gather(grid, for_columns))  # (width, height, S)
    return op.Transpose(op.ArgMax(wide, axis=2, keepdims=0), perm=[1, 0])


@script()
def inside_boxes(chosen, columns, rows, pixel):
    """Whether pixels are inside boxes: (D, rows, 1) and (D, 1, columns)."""
    x0, y0, x1, y1 = op.Split(op.Unsqueeze(op.Ceil(chosen / pixel), [2]), axis=1, num_outputs=4)
    y = op.Cast(op.Range(0, rows, 1), to=1)
    x = op.Cast(op.Range(0, columns, 1), to=1)
    inside_y = op.And(y >= op.Squeeze(y0, [1]), y < op.Squeeze(y1, [1]))  # (D, rows)
    inside_x = op.And(x >= op.Squeeze(x0, [1]), x < op.Squeeze(x1, [1]))  # (D, columns)
    return op.Unsqueeze(inside_y, [2]), op.Unsqueeze(inside_x, [1])


@script()
def probabilities(coefficients, prototypes, points):
    """Mask probabilities (D, h, w) on the grid."""
    weights = op.Gather(op.Squeeze(coefficients, [0]), points)  # (D, K)
    flat = op.Flatten(op.Squeeze(prototypes, [0]), axis=1)  # (K, h * w)
    cells = op.Shape(prototypes, start=2, end=4)
    return op.Sigmoid(op.Reshape(op.MatMul(weights, flat), op.Concat([-1], cells, axis=0)))


@script()
def masks_by_input(coefficients, prototypes, points, chosen, images, contents, size):
    """Masks (D, height, width): binary on the canvas, then resized to the image."""
    grids = op.Unsqueeze(probabilities(coefficients, prototypes, points), [0])  # (1, D, h, w)
    canvas = op.Shape(images, start=2, end=4)
    count = op.Shape(points)
    large = op.Resize(
        grids,
        None,
        None,
        op.Concat([1], count, canvas, axis=0),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    inside_y, inside_x = inside_boxes(
        chosen,
        op.Squeeze(op.Shape(images, start=3, end=4)),
        op.Squeeze(op.Shape(images, start=2, end=3)),
        op.Constant(value_float=1.0),
    )
    binary = op.And(op.And(op.Squeeze(large, [0]) > 0.5, inside_y), inside_x)
    where = op.Cast(op.Squeeze(contents, [0]), to=7)
    left, top, extent_x, extent_y = op.Split(where, num_outputs=4)
    start = op.Concat(top, left, axis=0)
    stop = start + op.Concat(extent_y, extent_x, axis=0)
    content = op.Slice(op.Cast(binary, to=1), start, stop, [1, 2])
    resized = op.Resize(
        op.Unsqueeze(content, [0]),
        None,
        None,
        op.Concat([1], count, size, axis=0),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    return op.Squeeze(resized, [0]) >= 0.5


@script()
def masks_by_grid(coefficients, prototypes, points, chosen, images, contents, size):
    """Masks (D, height, width): cropped on the grid, then resized to the image and thresholded."""
    grids = probabilities(coefficients, prototypes, points)  # (D, h, w)
    cells = op.Shape(prototypes, start=2, end=4)
    rows, columns = op.Split(cells, num_outputs=2)
    grid_y, grid_x = op.Split(op.Cast(cells, to=1), num_outputs=2)
    stride = op.Cast(op.Shape(images, start=3, end=4), to=1) / grid_x
    inside_y, inside_x = inside_boxes(chosen, op.Squeeze(columns), op.Squeeze(rows), stride)
    inside = op.Where(op.And(inside_y, inside_x), grids, op.Constant(value_float=0.0))
    left, top, extent_x, extent_y = op.Split(op.Squeeze(contents, [0]), num_outputs=4)
    size_y, size_x = op.Split(size, num_outputs=2)
    y = op.Cast(op.Range(0, op.Squeeze(size_y), 1), to=1) + 0.5
    x = op.Cast(op.Range(0, op.Squeeze(size_x), 1), to=1) + 0.5
    y = (y * extent_y / op.Cast(size_y, to=1) + top) / stride - 0.5
    x = (x * extent_x / op.Cast(size_x, to=1) + left) / stride - 0.5
    zero = op.Constant(value_float=0.0)
    y = op.Min(op.Max(y, zero), grid_y - 1.0)
    x = op.Min(op.Max(x, zero), grid_x - 1.0)
    tall = interpolate(op.Transpose(inside, perm=[1, 2, 0]), y, grid_y)  # (height, w, D)
    wide = interpolate(op.Transpose(tall, perm=[1, 0, 2]), x, grid_x)  # (width, height, D)
    return op.Transpose(wide, perm=[2, 1, 0]) > 0.5


@script()
def merge(
    masks, scores, classes, semantic, things, leaves, num_classes, overlap, area_limit, threshold
):
    """Segment ids (height, width), 0 for none, and segments (P, 4)."""
    last_thing = op.Shape(things) - 1
    last_leaf = op.Shape(leaves) - 1
    categories = op.Gather(things, op.Min(classes, last_thing))  # (D,)
    above = op.ReduceSum(op.Cast(scores >= threshold, to=7), keepdims=0)
    ids = semantic * 0  # (height, width)
    count = op.Constant(value_int=0)
    no_one = op.Constant(value_int=0)
    kept = classes < no_one  # (D,)
    for i in range(above):
        mask = op.Gather(masks, i)  # (height, width)
        visible = op.And(mask, ids == no_one)
        area = op.ReduceSum(op.Cast(mask, to=1), keepdims=0)
        visible_area = op.ReduceSum(op.Cast(visible, to=1), keepdims=0)
        is_kept = op.And(
            op.And(visible_area > 0.0, area - visible_area <= overlap * area),
            op.Gather(categories, i) >= no_one,
        )
        count = count + op.Cast(is_kept, to=7)
        ids = op.Where(op.And(visible, is_kept), count, ids)
        kept = op.Or(kept, op.And(op.Range(0, op.Squeeze(op.Shape(classes)), 1) == i, is_kept))
    objects = op.Squeeze(op.NonZero(kept), [0])  # (T,)
    painted = op.Reshape(ids, [-1])
    ones = op.Cast(op.Expand([1], op.Shape(painted)), to=1)
    zeros = op.ConstantOfShape(op.Shape(classes) + 1)  # float
    counts = op.Cast(op.ScatterElements(zeros, painted, ones, axis=0, reduction="add"), to=7)
    thing_areas = op.Slice(counts, [1], op.Shape(objects) + 1, [0])  # (T,)
    leaf = op.Gather(leaves, op.Min(semantic, last_leaf))  # (height, width)
    free = op.Where(ids == no_one, leaf, op.Constant(value_int=-1)) + 1
    flat = op.Reshape(free, [-1])
    zeros = op.ConstantOfShape(num_classes + 1)  # float
    areas = op.Cast(op.ScatterElements(zeros, flat, ones, axis=0, reduction="add"), to=7)
    areas = op.Slice(areas, [1], num_classes + 1, [0])  # (panoptic classes,)
    is_large = op.Cast(areas >= area_limit, to=7)
    numbers = (op.CumSum(is_large, 0) + count) * is_large
    ids = ids + op.Gather(op.Concat([0], numbers, axis=0), free)
    stuff = op.Squeeze(op.NonZero(is_large), [0])
    one = op.Constant(value_int=1)
    thing_rows = op.Concat(
        op.Unsqueeze(op.Gather(categories, objects), [1]),
        op.Unsqueeze(objects * 0 + one, [1]),
        op.Unsqueeze(objects, [1]),
        op.Unsqueeze(thing_areas, [1]),
        axis=1,
    )
    stuff_rows = op.Concat(
        op.Unsqueeze(stuff, [1]),
        op.Unsqueeze(stuff * 0, [1]),
        op.Unsqueeze(stuff * 0 - one, [1]),
        op.Unsqueeze(op.Gather(areas, stuff), [1]),
        axis=1,
    )
    return ids, op.Concat(thing_rows, stuff_rows, axis=0)


FUNCTIONS = (
    best_class_only,
    suppress,
    best_points,
    place_boxes,
    interpolate,
    semantic_labels,
    inside_boxes,
    probabilities,
    masks_by_input,
    masks_by_grid,
    merge,
)
