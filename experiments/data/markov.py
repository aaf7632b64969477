"""A random Markov chain of order 2: a text whose loss has a floor that is known exactly."""

import bisect

import numpy as np

NUM_SYMBOLS = 8
CONCENTRATION = 0.3  # the smaller, the fewer symbols usually follow a pair, and the lower the floor
NUM_TRAIN, NUM_TEST = 2**19, 2**17
SEED = 2024
SYMBOLS = "abcdefghijklmnopqrstuvwxyz"


def random_chain(
    num_symbols: int = NUM_SYMBOLS, *, concentration: float = CONCENTRATION, seed: int = SEED
) -> np.ndarray:
    """Draws the transition probabilities of a chain from a symmetric Dirichlet distribution.

    Args:
      num_symbols: number of symbols, K.
      concentration: parameter of the Dirichlet distribution, above 0.
      seed: seed of the draw.

    Returns:
      float64 [K, K, K]: `chain[a, b, c]` is the probability that c follows a and b.

    >>> random_chain(3).shape
    (3, 3, 3)
    """
    rng = np.random.default_rng(seed)
    return rng.dirichlet([concentration] * num_symbols, size=(num_symbols, num_symbols))


def stationary(chain: np.ndarray) -> np.ndarray:
    """Returns the stationary distribution of the pairs of consecutive symbols.

    It solves pi(b, c) = sum_a pi(a, b) chain[a, b, c], with probabilities that sum to 1.

    Args:
      chain: float64 [K, K, K], transition probabilities with one stationary distribution.

    Returns:
      float64 [K, K].
    """
    size = len(chain)
    # From the pair (a, b) to the pair (b, c).
    step = np.einsum("abc,bd->abdc", chain, np.eye(size)).reshape(size**2, size**2)
    equations = np.concatenate([step.T - np.eye(size**2), np.ones((1, size**2))])
    values = np.concatenate([np.zeros(size**2), np.ones(1)])
    solution, *_ = np.linalg.lstsq(equations, values)
    return solution.reshape(size, size)


def entropy_rate(chain: np.ndarray) -> float:
    """Returns the entropy of the next symbol, given all earlier ones.

        H = - sum_{a,b} pi(a, b) sum_c chain[a, b, c] log chain[a, b, c]

    No model has a lower expected loss (Cover and Thomas 2006, Elements of Information Theory,
    theorem 4.2.4).

    Args:
      chain: float64 [K, K, K], transition probabilities.

    Returns:
      The entropy rate in nats per symbol.

    >>> round(entropy_rate(np.full((2, 2, 2), 0.5)), 4)  # log 2
    0.6931
    """
    logarithms = np.log(chain, out=np.zeros_like(chain), where=chain > 0)
    return float(-(stationary(chain)[:, :, np.newaxis] * chain * logarithms).sum())


def sample(chain: np.ndarray, num_symbols: int, *, seed: int = SEED) -> np.ndarray:
    """Draws a sequence that starts in the stationary distribution.

    Args:
      chain: float64 [K, K, K], transition probabilities.
      num_symbols: length of the sequence, at least 2.
      seed: seed of the draw.

    Returns:
      uint8 [num_symbols].
    """
    rng = np.random.default_rng([seed, 1])  # other numbers than those of `random_chain`
    size = len(chain)
    pair = int(rng.choice(size**2, p=stationary(chain).clip(0).reshape(-1)))
    drawn = list(divmod(pair, size))
    # The last cumulative probability may be rounded to less than 1, so it is left out.
    rows = chain.cumsum(axis=2)[:, :, :-1].reshape(size**2, size - 1).tolist()
    for uniform in rng.random(num_symbols - 2).tolist():
        symbol = bisect.bisect_right(rows[pair], uniform)
        drawn.append(symbol)
        pair = pair % size * size + symbol
    return np.array(drawn, np.uint8)
