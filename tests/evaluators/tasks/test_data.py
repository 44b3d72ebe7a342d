"""Corpora are read where they lie, and what is off is told in one line."""

import pytest

from evaluators.tasks.data import check_classes, check_text, check_turns, read_dataset
from search_spaces import AudioError
from tests.evaluators.tasks.conftest import write_manifest, write_tone


def ids(data):
    return {part: [example.id for example in examples] for part, examples in data.parts.items()}


def labels(data):
    return {part: [example.label for example in examples] for part, examples in data.parts.items()}


def test_librispeech_folders(tmp_path):
    for split, speaker in (("train-clean-100", 19), ("dev-clean", 84), ("test-other", 61)):
        chapter = tmp_path / split / str(speaker) / "198"
        for i in range(2):
            write_tone(chapter / f"{speaker}-198-{i:04}.flac", 300)
        lines = [f"{speaker}-198-{i:04} HELLO {'WORLD' if i else 'YOU'}\n" for i in range(2)]
        (chapter / f"{speaker}-198.trans.txt").write_text("".join(lines))
    data = read_dataset(tmp_path, "text")
    assert ids(data)["train"] == ["19-198-0000", "19-198-0001"]
    assert labels(data)["test"] == ["HELLO YOU", "HELLO WORLD"]
    assert data.dev[0].audio == tmp_path / "dev-clean" / "84" / "198" / "84-198-0000.flac"
    assert labels(read_dataset(tmp_path, "speaker"))["dev"] == ["84", "84"]
    with pytest.raises(AudioError, match="LibriSpeech has the labels text, speaker; this task needs 'intent'"):
        read_dataset(tmp_path, "intent")


def test_speech_commands_keeps_ten_words_and_calls_the_others_unknown(tmp_path):
    for word in ("yes", "no", "bed"):
        for i in range(3):
            write_tone(tmp_path / word / f"a{i}_nohash_0.wav", 300)
    write_tone(tmp_path / "_background_noise_" / "hum.wav", 50)
    (tmp_path / "validation_list.txt").write_text("yes/a1_nohash_0.wav\nbed/a1_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("no/a2_nohash_0.wav\nbed/a2_nohash_0.wav\n")
    data = read_dataset(tmp_path, "keyword")
    assert labels(data)["dev"] == ["_unknown_", "yes"]
    assert ids(data)["test"] == ["bed/a2_nohash_0.wav", "no/a2_nohash_0.wav"]
    assert len(data.train) == 5
    assert data.left_out == ("silence: the class made of _background_noise_",)


def test_voxceleb_lists_for_identification_and_verification(tmp_path):
    names = [f"id1000{speaker}/vid/0000{i}.wav" for speaker in range(4) for i in range(10)]
    for name in names:
        write_tone(tmp_path / "wav" / name, 300)
    (tmp_path / "iden_split.txt").write_text("".join(f"{1 + i % 3} {name}\n" for i, name in enumerate(names)))
    (tmp_path / "veri_test.txt").write_text(f"1 {names[0]} {names[1]}\n0 {names[0]} {names[10]}\n")
    data = read_dataset(tmp_path, "speaker")
    assert ids(data)["dev"][:2] == ["id10000/vid/00001.wav", "id10000/vid/00004.wav"]
    data = read_dataset(tmp_path, "speaker", trials=True)
    assert data.trials == ((names[0], names[1], True), (names[0], names[10], False))
    assert ids(data)["test"] == [names[0], names[1], names[10]]
    assert {example.label for example in data.train} == {"id10002", "id10003"}  # none that is tried
    (tmp_path / "veri_test.txt").write_text("1 a\n")
    with pytest.raises(AudioError, match="line 1: needs 3 columns; got 2"):
        read_dataset(tmp_path, "speaker", trials=True)


def test_fluent_speech_commands(tmp_path):
    write_tone(tmp_path / "wavs" / "a.wav", 300)
    head = ",path,speakerId,transcription,action,object,location\n"
    (tmp_path / "data").mkdir()
    for stem in ("train", "valid", "test"):
        row = '0,wavs/a.wav,s1,"Lights on, please",activate,lights,kitchen\n'
        (tmp_path / "data" / f"{stem}_data.csv").write_text(head + row)
    assert labels(read_dataset(tmp_path, "intent"))["test"] == ["activate/lights/kitchen"]
    assert labels(read_dataset(tmp_path, "text"))["train"] == ["Lights on, please"]
    (tmp_path / "data" / "test_data.csv").write_text("path\nwavs/a.wav\n")
    with pytest.raises(AudioError, match="lacks the column 'action'"):
        read_dataset(tmp_path, "intent")


def test_kaldi_folders_of_superbs_diarization(tmp_path):
    for split in ("train", "dev", "test"):
        write_tone(tmp_path / "wav" / f"{split}.wav", 300, seconds=2)
        (tmp_path / split).mkdir()
        (tmp_path / split / "wav.scp").write_text(f"{split} wav/{split}.wav\n")
        (tmp_path / split / "segments").write_text(f"u1 {split} 0.00 1.25\nu2 {split} 0.50 2.00\n")
        (tmp_path / split / "utt2spk").write_text("u1 ann\nu2 bob\n")
    data = read_dataset(tmp_path, "turns")
    assert data.dev[0].audio == tmp_path / "wav" / "dev.wav"
    assert check_turns(tmp_path, data) == (
        {key: [(0.0, 1.25, "ann"), (0.5, 2.0, "bob")] for key in ("train", "dev", "test")},
        2,
    )
    (tmp_path / "test" / "utt2spk").write_text("u1 ann\n")
    with pytest.raises(AudioError, match="u2 of test is not in utt2spk"):
        read_dataset(tmp_path, "turns")
    (tmp_path / "test" / "segments").write_text("u1 test 0 end\n")
    with pytest.raises(AudioError, match="a time must be a number of seconds; got 'end'"):
        read_dataset(tmp_path, "turns")


def test_corpora_of_other_toolkits_are_read_like_manifests(tmp_path):
    for split in ("train", "dev", "test"):
        write_tone(tmp_path / split / "a.wav", 300)
        (tmp_path / split / "metadata.csv").write_text("file_name,text,speaker\na.wav,hello,ann\n")
    data = read_dataset(tmp_path, "text")
    assert labels(data)["dev"] == ["hello"]
    assert data.test[0].audio == tmp_path / "test" / "a.wav"


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([[0, 1]], "turns of 'ann10' must be a list of"),
        ([[0.2, 0.1, "ann"]], r"a turn of 'ann10' goes from 0\.2 to 0\.1 s \(ann\)"),
        ([[0, "inf", "ann"]], "goes from 0 to inf s"),
        ([[0, 1, "a"], [0, 1, "b"], [1, 2, "c"]], r"'ann10' \(test\) has 3 speakers, and train at most 1"),
        ("nobody", "turns of 'ann10' must be a list of"),
    ],
)
def test_turns_that_cannot_be_are_refused(tones, tmp_path, turns, said):
    folder, rows = tones
    rows = [{**row, "audio": str(folder / row["audio"]), "turns": [[0.1, 0.2, row["speaker"]]]} for row in rows]
    rows[10]["turns"] = turns
    data = read_dataset(write_manifest(tmp_path / "m.jsonl", rows), "turns")
    with pytest.raises(AudioError, match=said):
        check_turns("m.jsonl", data)


def test_a_folder_of_no_known_layout_lists_those_that_are(tmp_path):
    with pytest.raises(AudioError, match=r"LibriSpeech .*Speech Commands v1"):
        read_dataset(tmp_path, "text")


def test_missing_labels_are_refused_or_left_out_and_counted(tones, tmp_path):
    folder, rows = tones
    rows = [{**row, "audio": str(folder / row["audio"])} for row in rows]
    rows[3]["speaker"] = None
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    with pytest.raises(AudioError, match=r"1 of 36 recordings have no 'speaker': ann3; .*--skip-missing"):
        read_dataset(manifest, "speaker")
    data = read_dataset(manifest, "speaker", skip_missing=True)
    assert len(data.train) == 23
    assert data.left_out == ("1 recordings without a speaker",)


def test_audio_that_moved_is_told_before_anything_is_computed(tones, tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", tones[1])
    with pytest.raises(AudioError, match=r"36 of 36 recordings are not where .* says; the first: .*ann0\.wav"):
        read_dataset(manifest, "speaker")


def test_one_class_and_unseen_classes_are_refused(tones, tmp_path):
    folder, rows = tones
    rows = [{**row, "audio": str(folder / row["audio"])} for row in rows]
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    with pytest.raises(AudioError, match="every train recording has the language 'en'"):
        check_classes(manifest, read_dataset(manifest, "language"), "language")
    rows[-1]["speaker"] = "dan"
    data = read_dataset(write_manifest(manifest, rows), "speaker")
    with pytest.raises(AudioError, match="1 of the speaker classes in test are not in train: dan"):
        check_classes(manifest, data, "speaker")
    assert check_classes(manifest, data, "speaker", open_set=True) == ("ann", "bob", "cid")


def test_texts_keep_to_the_alphabet_of_train(tones, tmp_path):
    folder, rows = tones
    rows = [{**row, "audio": str(folder / row["audio"])} for row in rows]
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    data, alphabet = check_text(manifest, read_dataset(manifest, "text"))
    assert alphabet == " dghilmow"
    assert data.test[-1].label == "high l"
    rows[-1]["text"] = "léw"
    data = read_dataset(write_manifest(manifest, rows), "text")
    with pytest.raises(AudioError, match=r"text of 'cid11' \(test\) has characters outside the alphabet .*: é; "):
        check_text(manifest, data)
    data, alphabet = check_text(manifest, data, alphabet="low")
    assert alphabet == " low"
    assert data.test[-1].label == "l w"
    assert data.left_out == ("12 texts without a letter of the alphabet",)
