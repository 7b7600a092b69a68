"""What is typed into each shell, and the line that Tab makes of it."""

LINES = {
    "goldsmith buil": "goldsmith build",  # or builds
    "goldsmith builds sh": "goldsmith builds show ",
    "goldsmith --no-pager images lin": "goldsmith --no-pager images lineage ",
    "true; goldsmith images lin": "true; goldsmith images lineage ",
    "goldsmith build --eng": "goldsmith build --engine ",
    "goldsmith build --engine c": "goldsmith build --engine chroot ",
    "goldsmith build --engine=c": "goldsmith build --engine=chroot ",
    "goldsmith build x.yaml --quiet --qu": "goldsmith build x.yaml --quiet --qu",  # is given already
    "goldsmith builds show hello-000000000ab": "goldsmith builds show hello-000000000ab",
    "goldsmith builds show world-1": "goldsmith builds show world-1 ",
    "goldsmith builds show '$": "goldsmith builds show '$",
    "goldsmith builds show --project p world": "goldsmith builds show --project p world",
    "goldsmith images show o": "goldsmith images show odd ",
    'goldsmith images show "o': 'goldsmith images show "odd" ',
    "goldsmith images delete base-1 base-": "goldsmith images delete base-1 base-2 ",
    "goldsmith images show nothing": "goldsmith images show nothing",
    "goldsmith images list --family ": "goldsmith images list --family base ",
    "goldsmith build b": "goldsmith build build.yaml ",
    "goldsmith build my": r"goldsmith build my\ specs/",
    r"goldsmith validate my\ specs/": r"goldsmith validate my\ specs/a\ b.yaml ",
    "goldsmith validate 'my specs/": "goldsmith validate 'my specs/a b.yaml' ",
    "goldsmith init --from o": "goldsmith init --from other.json ",
    "goldsmith images export odd -o ": r"goldsmith images export odd -o my\ specs/",  # folders alone
    "goldsmith images export odd --output=": r"goldsmith images export odd --output=my\ specs/",
    "goldsmith nothing ": "goldsmith nothing ",
}
