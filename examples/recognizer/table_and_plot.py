"""A video as a table and a plot, cell by cell: ``table_and_plot.py fer2013 clip.mp4``"""

# %% A saved model, or a network that ships; and a video
import sys

from ferpipe import Recognizer
from ferpipe.recognition.drawing import plot_scores
from ferpipe.recognition.tables import as_table

model, video = sys.argv[1:]
recognizer = Recognizer(model)
predictions = list(recognizer.predict_video(video))

# %% A row a face a frame: a pandas DataFrame with the column names of py-feat
table = as_table(predictions)
print(table[["frame", "time", "Identity", "label", "AU12", "Yaw"]].round(3))

# %% How long was which expression seen, and how strong were smile and frown?
seen = table[table["quality"] > 0.5]
print(seen.groupby("label")[["AU12", "AU04"]].agg(["size", "mean"]).round(3))

# %% Probabilities and action units over time
figure = plot_scores(predictions, gives=recognizer.gives)
figure.savefig("expressions.png")
