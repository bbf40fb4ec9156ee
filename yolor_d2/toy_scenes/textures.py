"""Textures of the toy scenes' stuff, such as sky, grass or a wall.

Images are float32 RGB in 0..1, (H, W, 3). Ground textures are drawn in perspective: fine and pale
at the horizon, coarse and saturated at the lower border.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from .pixels import Array, per_channel, per_pixel


class Canvas(NamedTuple):
    """Inputs of a texture.

    Only the rows of a window are painted, so below (H, W) is the shape of the window. All random
    numbers are drawn for the whole image, so pixels do not depend on the window.

    Attributes:
        rng: random generator.
        height, width: size of the image.
        weather: one of WEATHERS.
        horizon: row of the horizon.
        window: the rows to paint.
    """

    rng: np.random.Generator
    height: int
    width: int
    weather: str
    horizon: float
    window: slice = slice(None)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window."""
        return len(range(self.height)[self.window]), self.width

    @property
    def rows(self) -> Array:
        """Row numbers, (H, 1)."""
        return np.arange(self.height, dtype=np.float32)[self.window, None]

    @property
    def columns(self) -> Array:
        """Column numbers, (1, W)."""
        return np.arange(self.width, dtype=np.float32)[None, :]

    @property
    def nearness(self) -> Array:
        """0 at the horizon and above, 1 at the lower border, (H, 1)."""
        return np.clip((self.rows - self.horizon) / max(self.height - self.horizon, 1), 0, 1)

    def noise(self, cell: float, *, stretch: float = 1.0, octaves: int = 4) -> Array:
        """Draw smooth noise of mean 0 and deviation 1, (H, W); `cell` is a share of the height."""
        return self._whole_noise(cell, stretch=stretch, octaves=octaves)[self.window]

    def noise_and_below(
        self, cell: float, down: int, *, stretch: float, octaves: int
    ) -> tuple[Array, Array]:
        """Draw noise, and return it also from `down` rows below; both (H, W)."""
        noise = self._whole_noise(cell, stretch=stretch, octaves=octaves)
        return noise[self.window], np.roll(noise, -down, axis=0)[self.window]

    def _whole_noise(self, cell: float, *, stretch: float, octaves: int) -> Array:
        """Draw the noise of the whole image."""
        total = np.zeros((self.height, self.width), np.float32)
        for octave in range(octaves):
            pixels = max(cell * self.height / 2**octave, 1.0)
            rows = int(self.height / pixels) + 2
            columns = int(self.width / (pixels * stretch)) + 2
            grid = self.rng.standard_normal((rows, columns), dtype=np.float32)
            smooth = cv2.resize(grid, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
            total += smooth / np.float32(1.7**octave)
        total -= total.mean()
        total /= np.sqrt(np.square(total).mean()) + 1e-6
        return total

    def pixel_noise(self) -> Array:
        """Draw independent noise for each pixel, (H, W)."""
        return self.rng.standard_normal((self.height, self.width), dtype=np.float32)[self.window]

    def ground(self) -> tuple[Array, Array]:
        """Return ground coordinates in image heights: across (H, W), along (H, 1)."""
        depth = 1.0 / (0.09 + 0.91 * self.nearness)
        return (self.columns - self.width / 2) / self.height * depth, depth

    def ground_noise(self, cell: float, *, stretch: float = 1.0) -> Array:
        """Draw noise on the ground, in perspective and faded at the horizon, (H, W)."""
        tile = self._replace(height=256, width=256)._whole_noise(0.25, stretch=1.0, octaves=4)
        # Mirroring makes it repeat without seams; BORDER_REFLECT in remap is several times slower.
        tile = cv2.copyMakeBorder(tile, 0, 256, 0, 256, cv2.BORDER_REFLECT)
        across, along = self.ground()
        scale = 64 / cell
        lookup = cv2.remap(
            tile,
            across * scale / stretch + 128,
            np.tile(along * scale, self.width),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        return lookup * (0.15 + 0.85 * self.nearness)

    def pick(self, *palettes: tuple[int, int, int]) -> Array:
        """Draw one of the RGB colors and vary it slightly; returns values in 0..1."""
        color = np.array(palettes[self.rng.integers(len(palettes))], np.float32) / 255
        return np.clip(color * self.rng.uniform(0.94, 1.05, 3), 0, 1).astype(np.float32)


def _mix(first: Array, second: Array, share: Array) -> Array:
    """Blend `second` over `first` with a share of shape (H, W) or (H, 1)."""
    share = np.clip(np.asarray(share, np.float32), 0, 1)
    width = share.shape[1]
    first, second = (per_channel(v, width) if v.ndim == 1 else v for v in (first, second))
    mixed = (second - first) * per_pixel(share)
    mixed += first
    return mixed


def _sky(canvas: Canvas) -> Array:
    palettes = {
        "clear": ((58, 128, 214), (190, 222, 246)),
        "cloudy": ((122, 154, 192), (220, 228, 236)),
        "sunset": ((92, 84, 150), (255, 168, 92)),
    }
    top, bottom = (canvas.pick(color) for color in palettes[canvas.weather])
    drop = np.clip(canvas.rows / max(canvas.horizon, 1), 0, 1) ** 1.2
    image = _mix(top, bottom, np.broadcast_to(drop, canvas.shape))

    sun_x, sun_y = canvas.rng.uniform(0.1, 0.9) * canvas.width, canvas.horizon * 0.75
    distance = np.hypot(canvas.columns - sun_x, (canvas.rows - sun_y) * 1.3) / canvas.height
    glow = {"clear": 0.25, "cloudy": 0.15, "sunset": 0.75}[canvas.weather]
    image = _mix(image, np.array([1.0, 0.93, 0.74], np.float32), glow * np.exp(-distance * 4))

    down = max(canvas.height // 40, 1)
    cloud, below = canvas.noise_and_below(0.32, down, stretch=2.6, octaves=5)
    cover = {"clear": -1.25, "cloudy": 0.45, "sunset": -0.35}[canvas.weather]
    density = 1 / (1 + np.exp(-(cloud + cover) * 3.5))
    # Light comes from above: a cloud is bright where the noise rises downwards.
    relief = np.clip(cloud - below, -1, 1)
    shade = per_pixel((0.94 - 0.10 * relief).astype(np.float32))
    tint = {"clear": (1.0, 1.0, 1.0), "cloudy": (0.96, 0.97, 0.99), "sunset": (1.0, 0.72, 0.62)}
    color = per_channel(np.array(tint[canvas.weather], np.float32), canvas.width)
    white = np.clip(shade * color, 0, 1)
    return _mix(image, white, density * 0.9)


def _mountain(canvas: Canvas) -> Array:
    rock = canvas.pick((92, 104, 132), (112, 108, 124), (84, 110, 118))
    haze = canvas.pick((196, 208, 226), (206, 206, 222))
    ridges = canvas.noise(0.16, stretch=0.7, octaves=5)
    slope = ridges - np.roll(ridges, max(canvas.width // 60, 1), axis=1)
    image = np.clip(per_channel(rock, canvas.width) * per_pixel(1 + 0.16 * slope), 0, 1)
    snow_line = canvas.horizon + canvas.height * 0.05 + ridges * canvas.height * 0.02
    snow = np.clip((snow_line - canvas.rows) / (0.03 * canvas.height), 0, 1)
    image = _mix(image, per_pixel(np.clip(0.95 + 0.06 * slope, 0, 1)), snow)
    fall = np.clip((canvas.rows - canvas.horizon) / (0.4 * canvas.height), 0, 1)
    return _mix(image, haze, 0.1 + 0.75 * np.broadcast_to(fall, ridges.shape))


def _water(canvas: Canvas) -> Array:
    far = {"clear": (150, 205, 226), "cloudy": (160, 180, 194), "sunset": (240, 168, 128)}
    near = {"clear": (22, 96, 150), "cloudy": (44, 86, 118), "sunset": (66, 66, 122)}
    nearness = canvas.nearness
    image = _mix(
        canvas.pick(far[canvas.weather]), canvas.pick(near[canvas.weather]), nearness**0.55
    )
    swell = canvas.ground_noise(0.5, stretch=4.0) + 0.6 * canvas.ground_noise(0.16, stretch=3.0)
    crest = np.clip(swell - 0.75, 0, 1) * (0.25 + 0.5 * nearness)
    image = np.broadcast_to(image, (*swell.shape, 3)) * per_pixel(1 + 0.10 * swell)
    return _mix(image, np.array([0.93, 0.97, 1.0], np.float32), crest)


def _grass(canvas: Canvas) -> Array:
    far = canvas.pick((158, 190, 104), (172, 192, 110), (140, 184, 112))
    near = canvas.pick((66, 128, 44), (84, 136, 48), (58, 118, 56))
    patches = canvas.ground_noise(0.9) * 0.10 + canvas.ground_noise(0.12) * 0.10
    image = _mix(far, near, canvas.nearness**0.6 + patches)
    image = np.ascontiguousarray(np.clip(image * per_pixel(1 + 0.05 * canvas.pixel_noise()), 0, 1))
    count = int(1.6 * canvas.width)
    # Square roots place more blades near the viewer; sorting paints the far ones first.
    depth = np.sort(np.sqrt(canvas.rng.random(count)))
    span = canvas.height - canvas.horizon
    bottoms = canvas.horizon + depth * span * 1.1 + 0.03 * canvas.height
    left = canvas.rng.uniform(0, canvas.width, count)
    lean = canvas.rng.normal(0, 0.3, count)
    length = (0.006 + 0.045 * depth) * canvas.height * canvas.rng.uniform(0.6, 1.2, count)
    tone = canvas.rng.uniform(0.72, 1.35, count)
    tint = canvas.rng.uniform(0.9, 1.25, count)
    blades = np.stack([left, bottoms, left + lean * length, bottoms - length], axis=1) * 16
    ends = blades.astype(int) - [0, 16 * int(canvas.rows[0, 0])] * 2
    colors = (far * (1 - depth[:, None]) + near * depth[:, None]) * tone[:, None]
    colors[:, 0] *= tint
    for (x, y, *tip), color in zip(ends.tolist(), colors.tolist(), strict=True):
        cv2.line(image, (x, y), tip, color, 1, cv2.LINE_AA, 4)
    return np.clip(image, 0, 1)


def _sand(canvas: Canvas) -> Array:
    far = canvas.pick((240, 222, 176), (236, 214, 170))
    near = canvas.pick((222, 186, 124), (214, 178, 118), (228, 190, 140))
    _, along = canvas.ground()
    wobble = canvas.ground_noise(0.6, stretch=2.0)
    ripple = np.sin(along * canvas.rng.uniform(26, 40) + 2.2 * wobble) * canvas.nearness
    image = _mix(far, near, canvas.nearness + 0.12 * wobble)
    return image * per_pixel(1 + 0.05 * ripple + 0.03 * wobble + 0.03 * canvas.pixel_noise())


def _snow(canvas: Canvas) -> Array:
    far = canvas.pick((226, 234, 246))
    near = canvas.pick((246, 249, 253), (240, 245, 253))
    drift = canvas.ground_noise(1.2, stretch=2.2)
    image = _mix(near, canvas.pick((186, 204, 232)), np.clip(0.22 + 0.22 * drift, 0, 1))
    image = _mix(far, image, 0.3 + 0.7 * np.broadcast_to(canvas.nearness, drift.shape))
    sparkle = (canvas.pixel_noise() > 2.9).astype(np.float32)
    return _mix(
        image * per_pixel(1 + 0.012 * canvas.pixel_noise()), np.ones(3, np.float32), sparkle
    )


def _brick(canvas: Canvas) -> Array:
    high = canvas.height * canvas.rng.uniform(0.05, 0.075)
    wide = high * 2.3
    row = np.floor(canvas.rows / high)
    shifted = canvas.columns + (row % 2) * wide / 2
    column = np.floor(shifted / wide)
    tones = canvas.rng.normal(1, 0.07, (64, 64)).astype(np.float32)
    tone = tones[row.astype(int) % 64, column.astype(int) % 64]
    edge_y = np.minimum(canvas.rows % high, high - canvas.rows % high)
    edge_x = np.minimum(shifted % wide, wide - shifted % wide)
    joint = np.clip(1.6 - np.minimum(edge_x, edge_y) / (high * 0.07), 0, 1)
    brick = canvas.pick((176, 96, 76), (186, 118, 92), (196, 178, 162), (150, 108, 98))
    face = per_channel(brick, canvas.width) * per_pixel(tone * (1 + 0.04 * canvas.noise(0.03)))
    return _mix(face, canvas.pick((214, 204, 192), (190, 182, 174)), joint * 0.85)


def _wallpaper(canvas: Canvas) -> Array:
    wide = canvas.height * canvas.rng.uniform(0.09, 0.16)
    wave = np.sin(canvas.columns / wide * 2 * np.pi)
    stripe = np.broadcast_to(np.clip(wave * 4 + 0.5, 0, 1), canvas.shape)
    first = canvas.pick((214, 222, 214), (226, 212, 196), (204, 214, 226), (228, 206, 206))
    return _mix(first, first * canvas.rng.uniform(0.88, 0.94), stripe)


def _plaster(canvas: Canvas) -> Array:
    color = canvas.pick((222, 206, 182), (186, 204, 202), (214, 190, 184), (190, 196, 216))
    relief = canvas.noise(0.08, octaves=5)
    bright = 1 + 0.025 * relief + 0.03 * canvas.noise(0.6, octaves=2)
    return per_channel(color, canvas.width) * per_pixel(bright)


def _wall(canvas: Canvas) -> Array:
    surfaces = (_brick, _wallpaper, _plaster)
    image = surfaces[canvas.rng.integers(len(surfaces))](canvas)
    lamp = canvas.rng.uniform(0.1, 0.9) * canvas.width
    distance = np.hypot(canvas.columns - lamp, canvas.rows + 0.1 * canvas.height) / canvas.height
    image = image * per_pixel(0.78 + 0.34 * np.exp(-((distance / 0.9) ** 2)))
    board = canvas.horizon - canvas.rows
    high = 0.045 * canvas.height
    skirting = np.broadcast_to((board < high).astype(np.float32), image.shape[:2])
    shade = 0.9 + 0.1 * np.clip(board / high, 0, 1) - 0.22 * (np.abs(board - high) < 1)
    return _mix(image, np.array([0.93, 0.91, 0.87], np.float32) * shade[..., None], skirting)


def _floor(canvas: Canvas) -> Array:
    across, along = canvas.ground()
    wide = canvas.rng.uniform(0.11, 0.18)
    plank = np.floor(across / wide)
    tones = canvas.rng.normal(1, 0.075, 512).astype(np.float32)
    starts = canvas.rng.random(512).astype(np.float32)
    index = plank.astype(int) % 512
    board = np.floor(along / 1.3 + starts[index] * 3)
    tone = tones[(index * 7 + board.astype(int) * 31) % 512]
    within = np.abs(across / wide - plank - 0.5)
    # Joints are at least a pixel wide to avoid aliasing at the far end.
    pixel = along / canvas.height / wide
    joint = np.clip((within - 0.5 + 0.012 + 0.7 * pixel) / pixel, 0, 1)
    wood = canvas.pick((178, 128, 82), (150, 102, 66), (196, 154, 108), (124, 88, 66))
    figure = canvas.ground_noise(0.05) * 0.5 + canvas.ground_noise(0.4) * 0.5
    image = per_channel(wood, canvas.width) * per_pixel(tone * (1 + 0.05 * figure))
    image = _mix(image, wood * 0.45, joint * (0.25 + 0.6 * canvas.nearness))
    return image * (0.84 + 0.2 * canvas.nearness)[..., None]


def _carpet(canvas: Canvas) -> Array:
    color = canvas.pick((150, 60, 72), (66, 92, 130), (82, 120, 104), (140, 104, 136))
    weave = canvas.ground_noise(0.035) * 0.5 + canvas.pixel_noise() * 0.5
    return np.clip(per_channel(color, canvas.width) * per_pixel(1 + 0.07 * weave), 0, 1)


TEXTURES: dict[str, Callable[[Canvas], Array]] = {
    "sky": _sky,
    "mountain": _mountain,
    "water": _water,
    "grass": _grass,
    "sand": _sand,
    "snow": _snow,
    "wall": _wall,
    "floor": _floor,
    "carpet": _carpet,
}
