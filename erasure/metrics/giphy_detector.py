"""Run GIPHY's celebrity detector over images: for the Python of the detector's own environment (3.6 or later), with nothing of ours.

    python giphy_detector.py DETECTOR_FOLDER images.json predictions.json

images.json lists paths; predictions.json maps file names to [[label, probability], ...] of the first person, empty without a face.
DETECTOR_FOLDER is a clone of https://github.com/Giphy/celeb-detection-oss, whose .env names its resources.
"""

import json
import os
import sys


def main(folder, images_path, out_path):
    os.chdir(folder)  # .env and the resources are named relative to it
    sys.path.insert(0, folder)
    read_settings(".env")
    detector, recognizer, preprocess, size = load()
    with open(images_path, encoding="utf-8") as file:
        images = json.load(file)
    found = {}
    for number, path in enumerate(images, 1):
        found[os.path.basename(path)] = predict(path, detector, recognizer, preprocess, size)
        sys.stderr.write("\rGIPHY {}/{}".format(number, len(images)))  # noqa: UP032
    sys.stderr.write("\n")
    with open(out_path, "w", encoding="utf-8") as file:
        json.dump(found, file)


def read_settings(path):
    """The variables of a .env file, where the environment has none of their own."""
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, separator, value = line.strip().partition("=")
                if separator and not name.startswith("#"):
                    os.environ.setdefault(name.strip(), value.strip().strip("'\""))


def load():
    from model_training.helpers.face_recognizer import FaceRecognizer
    from model_training.helpers.labels import Labels
    from model_training.preprocessors.face_detection.face_detector import FaceDetector
    from model_training.utils import preprocess_image

    resources = os.environ["APP_DATA_DIR"]
    cuda = os.environ.get("APP_USE_CUDA", "false").lower() == "true"
    detector = FaceDetector(resources, margin=float(os.environ.get("APP_FACE_MARGIN", 0.2)), use_cuda=cuda)
    labels = Labels(resources_path=resources)
    recognizer = FaceRecognizer(labels=labels, resources_path=resources, use_cuda=cuda)
    return detector, recognizer, preprocess_image, int(os.environ.get("APP_FACE_SIZE", 224))


def predict(path, detector, recognizer, preprocess, size):
    import numpy as np
    from PIL import Image

    image = np.array(Image.open(path).convert("RGB"))
    faces = [preprocess(face, size) for face, _ in detector.perform_single(image)]
    people = recognizer.perform(faces) if faces else []
    return [[str(label), float(probability)] for label, probability in people[0][0]] if people else []


if __name__ == "__main__":
    main(*[os.path.abspath(argument) for argument in sys.argv[1:]])
