"""The 41 classes of FSDKaggle2018, in the order of the label table of the paper's authors: a number is theirs."""

FSDKAGGLE2018 = (
    "Hi-hat", "Saxophone", "Trumpet", "Cello", "Clarinet", "Snare_drum", "Laughter", "Fart", "Flute", "Bass_drum",
    "Squeak", "Double_bass", "Shatter", "Fireworks", "Applause", "Acoustic_guitar", "Violin_or_fiddle", "Tearing",
    "Oboe", "Gong", "Knock", "Writing", "Cough", "Bark", "Tambourine", "Burping_or_eructation", "Cowbell", "Harmonica",
    "Drawer_open_or_close", "Meow", "Electric_piano", "Gunshot_or_gunfire", "Microwave_oven", "Keys_jangling",
    "Telephone", "Computer_keyboard", "Finger_snapping", "Chime", "Bus", "Scissors", "Glockenspiel",
)  # fmt: skip
