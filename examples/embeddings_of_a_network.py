"""How do a network's own softmax and other classifiers on its embeddings compare?"""

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from ferpipe import Augment, SequenceNetwork, Training, datasets

faces = datasets.make_expression_sequences(n_sequences=120, classes=5, random_state=0)
split = GroupShuffleSplit(1, test_size=0.3, random_state=0)
train, test = next(split.split(faces.data, faces.target, faces.groups))
sequences, unseen = [[faces.data[i] for i in part] for part in (train, test)]
labels, truth = faces.target[train], faces.target[test]

network = SequenceNetwork(
    backbone="hog_cnn",
    rnn_type="gru",
    hidden_size=(32,),
    training=Training(max_epochs=25, batch_size=8, verbose=True),
    augment=Augment(flip=True, shift=0.02),
    random_state=0,
).fit(sequences, labels)
print(f"{'softmax':<22} {(network.predict(unseen) == truth).mean():.3f}")

embeddings, unseen_embeddings = network.transform(sequences), network.transform(unseen)
for classifier in (SVC(), KNeighborsClassifier(3), LogisticRegression(max_iter=1000)):
    score = classifier.fit(embeddings, labels).score(unseen_embeddings, truth)
    print(f"{type(classifier).__name__:<22} {score:.3f}")
