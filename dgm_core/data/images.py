"""Gray-level images in [0, 1]: digits, MNIST, Fashion-MNIST, Omniglot."""

from __future__ import annotations

import contextlib
import io
import zipfile

import numpy as np

from dgm_core.data.dataset import SPLITS, Dataset, split_indices
from dgm_core.data.files import DataError, Remote, cache_folder, locate, on_disk, reading
from dgm_core.data.reading import check_size, read_bytes, read_npz
from dgm_core.files import replacing

_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FASHION_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_OMNIGLOT_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"

_IDX_FILES = {
    "train images": "train-images-idx3-ubyte.gz",
    "train labels": "train-labels-idx1-ubyte.gz",
    "test images": "t10k-images-idx3-ubyte.gz",
    "test labels": "t10k-labels-idx1-ubyte.gz",
}
_SHA256 = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "omniglot": (
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
}


def digits(num_validation: int, num_test: int, seed: int) -> Dataset:
    """1,797 real handwritten digits, 8x8, 17 gray levels; they come with scikit-learn.

    References:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    parts = split_indices(len(images), (num_validation, num_test), seed)
    return _images("digits", images, labels, parts, (1, 8, 8), levels=17)


def mnist(num_validation: int, seed: int) -> Dataset:
    """70,000 handwritten digits, 28x28; the published 10,000 test images are the test split.

    References:
        Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    """
    return _idx("mnist", _MNIST_URLS, num_validation, seed)


def fashion_mnist(num_validation: int, seed: int) -> Dataset:
    """70,000 articles of clothing, 28x28; the published 10,000 test images are the test split.

    References:
        Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.
    """
    return _idx("fashion_mnist", _FASHION_URLS, num_validation, seed)


def omniglot(num_validation: int, num_test: int, seed: int) -> Dataset:
    """32,460 drawings of 1,623 characters, 28x28, ink is 1; the labels are the characters.

    Made from the published 105x105 drawings by averaging over boxes, so bounds do not compare with
    those on the 28x28 file of the IWAE paper. All alphabets are in all splits.

    References:
        Lake, Salakhutdinov & Tenenbaum (2015), Human-level concept learning, Science 350.
    """
    if path := on_disk("omniglot/omniglot28.npz"):
        with reading(path):
            images, labels = read_npz(path, ("images", "character"))
            _check_images(images, labels)
            if images.shape[1:] != (28, 28) or labels.min() < 0:
                raise ValueError("it holds no drawings of 28x28 pixels with their characters")
    else:
        images, labels = _draw_omniglot()
    parts = split_indices(len(images), (num_validation, num_test), seed)
    rows = images.reshape(len(images), -1)
    return _images("omniglot", rows, labels, parts, (1, 28, 28), levels=256)


def read_idx(contents: bytes) -> np.ndarray:
    """An array of bytes in the IDX format of the MNIST files.

    Raises:
        ValueError: when the header is not that of an IDX file of bytes or the length does not fit
            it.

    Example:
        >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        array([7, 8, 9], dtype=uint8)
    """
    if len(contents) < 4 or contents[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of bytes")
    num_dims = contents[3]
    shape = tuple(int(size) for size in np.frombuffer(contents, ">u4", num_dims, offset=4))
    values = np.frombuffer(contents, np.uint8, offset=4 + 4 * num_dims)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{values.size} values where the header announces {shape}")
    return values.reshape(shape)


def _idx(name: str, urls: tuple[str, ...], num_validation: int, seed: int) -> Dataset:
    arrays = {}
    for (part, file), checksum in zip(_IDX_FILES.items(), _SHA256[name], strict=True):
        path = locate(Remote(f"{name}/{file}", tuple(url + file for url in urls), checksum))
        with reading(path):
            arrays[part] = read_idx(read_bytes(path))
            if part.endswith("labels"):  # each after its images
                _check_images(arrays[part.replace("labels", "images")], arrays[part])
                if arrays[part].max() > 9:
                    raise ValueError("it holds labels beyond the ten classes")
    num_train, shape = len(arrays["train images"]), arrays["train images"].shape[1:]
    if shape != arrays["test images"].shape[1:]:
        raise DataError(f"The images of {name} for training and testing differ in size.")
    train, validation = split_indices(num_train, (num_validation,), seed)
    parts = [train, validation, np.arange(num_train, num_train + len(arrays["test images"]))]
    images = np.concatenate([arrays["train images"], arrays["test images"]])
    labels = np.concatenate([arrays["train labels"], arrays["test labels"]])
    rows = images.reshape(len(images), -1)
    return _images(name, rows, labels, parts, (1, *shape), levels=256)


def _check_images(images: np.ndarray, labels: np.ndarray) -> None:
    if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise ValueError(f"no gray images: shape {images.shape}, type {images.dtype}")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{len(images)} images, and labels of shape {labels.shape}")


def _images(
    name: str,
    gray: np.ndarray,
    labels: np.ndarray,
    parts: list[np.ndarray],
    image_shape: tuple[int, int, int],
    levels: int,
) -> Dataset:
    """Rows of gray levels 0, ..., levels - 1 as a data set in [0, 1]."""
    train, validation, test = (
        gray[part].astype(np.float32) / np.float32(levels - 1) for part in parts
    )
    classes = {
        split: labels[part].astype(np.int64) for split, part in zip(SPLITS, parts, strict=True)
    }
    return Dataset(
        name, train, validation, test, image_shape=image_shape, levels=levels, labels=classes
    )


def _draw_omniglot() -> tuple[np.ndarray, np.ndarray]:
    """Images (num, 28, 28), ink 0..255, and characters from the published zip files.

    They are kept as one file in the cache.
    """
    from PIL import Image, ImageOps

    drawings, names = [], []
    for part, checksum in zip(("background", "evaluation"), _SHA256["omniglot"], strict=True):
        file = f"images_{part}.zip"
        path = locate(Remote(f"omniglot/{file}", (_OMNIGLOT_URL + file,), checksum))
        with reading(path), zipfile.ZipFile(path) as archive:
            check_size(archive)
            for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
                page = Image.open(io.BytesIO(archive.read(name)))
                if page.size != (105, 105):
                    raise ValueError(f"{name} is no drawing of 105x105 pixels")
                ink = ImageOps.invert(page.convert("L"))
                drawings.append(np.asarray(ink.resize((28, 28), Image.Resampling.BOX)))
                names.append(name.rsplit("/", 1)[0])
            if not drawings:
                raise ValueError("it holds no drawings")
    images, labels = np.stack(drawings), np.unique(names, return_inverse=True)[1]
    prepared = cache_folder() / "omniglot" / "omniglot28.npz"
    with contextlib.suppress(OSError), replacing(prepared) as target:  # where it can be kept
        np.savez_compressed(target, images=images, character=labels)
    return images, labels
