"""The page of `glip demo` as a Hugging Face Space: words and a photo in, boxes out."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from PIL import Image

import glip

DETECTOR = glip.load()
PHOTOS = Path(glip.__file__).parent / "serve" / "page"
EXAMPLES = [
    [str(PHOTOS / "chelsea.jpg"), "a cat with green eyes", 0.4],
    [str(PHOTOS / "astronaut.jpg"), "person. flag. space shuttle.", 0.4],
    [str(PHOTOS / "coffee.jpg"), "cup, spoon, dining table", 0.4],
]


def find(
    photo: Image.Image | None, words: str, threshold: float
) -> tuple[tuple[Image.Image, list[tuple[tuple[int, int, int, int], str]]], list[list[object]]]:
    """The photo with its boxes, and a table of them."""
    if photo is None:
        raise gr.Error("Choose a photo first.")
    try:
        [found] = DETECTOR.predict(photo, glip.Prompt.of(words), threshold=threshold)
    except glip.GlipError as error:
        raise gr.Error(str(error)) from error
    rows = list(zip(found.boxes.tolist(), found.scores.tolist(), found.phrases, strict=True))
    boxes = [
        ((round(x1), round(y1), round(x2), round(y2)), f"{phrase} {score:.2f}")
        for (x1, y1, x2, y2), score, phrase in rows
    ]
    table = [[phrase, round(score, 3), *map(round, box)] for box, score, phrase in rows]
    return (photo, boxes), table


with gr.Blocks(title="glip: boxes for words") as page:
    gr.Markdown("# glip: boxes for words\nNames with periods between them, or a sentence.")
    with gr.Row():
        with gr.Column():
            photo = gr.Image(type="pil", label="Photo", sources=["upload", "webcam", "clipboard"])
            words = gr.Textbox(label="What to look for", value="a cat with green eyes")
            threshold = gr.Slider(0, 1, value=0.4, step=0.01, label="Show scores above")
            button = gr.Button("Find", variant="primary")
        with gr.Column():
            shown = gr.AnnotatedImage(label="Found")
            table = gr.Dataframe(headers=["phrase", "score", "x1", "y1", "x2", "y2"])
    for event in (button.click, words.submit, threshold.release):
        event(find, [photo, words, threshold], [shown, table])
    gr.Examples(EXAMPLES, [photo, words, threshold])

if __name__ == "__main__":
    page.launch()
