"""Kinds of damage to the files of a run or a sweep, and what may come of them."""

import random
import shutil

from experiments.errors import UserError

NUM_FLIPS = 4
OTHER_JSON = ("[]", "3", "null", "{}", '{"sha256": "0"}', '{"files": {"a": "b"}}')


def cases(directory, *, ignored=()):
    """Returns every kind of damage to every file below a directory.

    Args:
      directory: directory of a run or a sweep.
      ignored: beginnings of the names of files to leave out.

    Returns:
      Pairs of the file's path, relative to the directory, and the function that damages it.
    """
    names = sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(tuple(ignored))
    )
    moments = random.Random(0)
    found = []
    for name in names:
        found += [(name, emptied), (name, halved), (name, deleted), (name, directory_in_place)]
        found += [
            (name, _Flipped(moments.random(), moments.randrange(8))) for _ in range(NUM_FLIPS)
        ]
        found += [(name, _Swapped(other)) for other in moments.sample(names, 2) if other != name]
        if name.endswith((".json", "metadata")):
            found.append((name, _Replaced(moments.choice(OTHER_JSON))))
    return found


def emptied(directory, name):
    (directory / name).write_bytes(b"")


def halved(directory, name):
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[: len(content) // 2])


def deleted(directory, name):
    (directory / name).unlink()


def directory_in_place(directory, name):
    (directory / name).unlink()
    (directory / name).mkdir()


class _Flipped:
    """Flips one bit of one byte, at a fraction of the file's length."""

    def __init__(self, fraction, bit):
        self.fraction, self.bit = fraction, bit
        self.__name__ = f"bit {bit} flipped at {fraction:.3f}"

    def __call__(self, directory, name):
        content = bytearray((directory / name).read_bytes())
        if content:
            content[int(self.fraction * len(content))] ^= 1 << self.bit
        (directory / name).write_bytes(content)


class _Swapped:
    """Swaps the file with another file."""

    def __init__(self, other):
        self.other = other
        self.__name__ = f"swapped with {other}"

    def __call__(self, directory, name):
        ours, theirs = (directory / name).read_bytes(), (directory / self.other).read_bytes()
        (directory / name).write_bytes(theirs)
        (directory / self.other).write_bytes(ours)


class _Replaced:
    """Replaces the file's content with other JSON."""

    def __init__(self, text):
        self.text = text
        self.__name__ = f"replaced with {text}"

    def __call__(self, directory, name):
        (directory / name).write_text(self.text)


def outcome(intact, workdir, case, run, result):
    """Damages a copy of a directory, runs the command again, and compares.

    Args:
      intact: directory to copy.
      workdir: path of the copy, which is deleted afterwards.
      case: one of `cases`.
      run: runs the command in the copy; what it raises is an error of the command.
      result: returns what must not change.

    Returns:
      The result, or the sentence of the error.
    """
    name, damage = case
    shutil.copytree(intact, workdir)
    damage(workdir, name)
    try:
        run(workdir)
        return result(workdir)
    except UserError as error:
        return str(error)
    except OSError as error:  # the command prints these two parts
        return f"{error.strerror}: {error.filename}"
    finally:
        shutil.rmtree(workdir)


def assert_same_or_refused(found, wanted, case, errors):
    """Asserts that an outcome is the undamaged result, or one sentence.

    Args:
      found: the outcome.
      wanted: the undamaged result.
      case: the damage.
      errors: the standard error of the command.

    Returns:
      "refused", "repaired" with a warning, or "unchanged".
    """
    description = f"{case[0]} {case[1].__name__}: {found}\n{errors}"
    assert "Traceback" not in errors, description
    if isinstance(found, str):
        assert "\n" not in found, description
        assert len(found) < 2000, description
        return "refused"
    assert found == wanted, description
    return "repaired" if "warning: " in errors else "unchanged"
