import torch

from glip.model.text_encoder import Tokens, Words
from glip.training.word_noise import add_word_noise, moved


def some_words(prompts=40, tokens=30, width=64):
    torch.manual_seed(0)
    mask = torch.arange(tokens) < torch.randint(5, tokens + 1, (prompts, 1))
    return Words((torch.randn(prompts, tokens, width) + 3) * mask[..., None], mask)


def test_the_noise_is_as_strong_as_asked_for_and_padding_stays_zero():
    words = some_words()
    noise = moved(words, 1.0).states - words.states
    assert not noise[~words.mask].any()
    real = words.states[words.mask]
    apart = (real - real.mean(0)).square().mean()
    # The mean of the square of an even draw between 0 and 1 is a third.
    assert 0.27 < noise[words.mask].square().mean() / apart < 0.4
    assert noise[words.mask].mean().abs() < 0.05


def test_strengths_differ_from_token_to_token():
    words = some_words()
    sizes = (moved(words, 0.5).states - words.states)[words.mask].norm(dim=-1)
    assert sizes.min() < 0.1 * sizes.max()


def test_the_noise_lies_in_the_directions_in_which_words_differ():
    words = some_words()
    flat = Words(words.states.clone(), words.mask)
    flat.states[..., 10:] = 3.0 * flat.mask[..., None]  # what all words share says nothing of any
    noise = moved(flat, 1.0).states - flat.states
    assert noise[..., 10:].abs().max() < 1e-5
    assert noise[..., :10].abs().max() > 0.1


def test_gradients_pass_as_without_noise():
    words = some_words()
    states = words.states.requires_grad_()
    weights = torch.randn_like(states)
    (moved(Words(states, words.mask), 0.8).states * weights).sum().backward()
    assert torch.equal(states.grad, weights)


def test_only_a_model_that_trains_moves_its_words(make_tiny_model, tiny_detector):
    model = make_tiny_model()
    add_word_noise(model, 0.5)
    model.train()
    model.text.eval()  # as one that rests while the others train
    tokens = Tokens.pad([tiny_detector.tokenizer.encode("cat. dog.").ids])
    with torch.no_grad():
        one, other = model.text(tokens), model.text(tokens)
        model.eval()
        plain = model.text(tokens)
        assert torch.equal(plain.states, model.text(tokens).states)
    assert not torch.equal(one.states, other.states)
