//! Where an answer of a server ends, or a command to one (RESP3); and what a command looks like.

/// How long the answer or command is that these bytes begin with, once it is there as a whole.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    // Of what is null there is none.
    let count = || std::str::from_utf8(&bytes[1..line]).ok()?.parse().map(|count: i64| count.max(-1)).ok();
    let after = line + 2;
    let parts = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let length = usize::try_from(count()?).map_or(after, |length| after + length + 2);
            return (bytes.len() >= length).then_some(length);
        }
        b'*' | b'~' | b'>' => count()?,
        b'%' => count()? * 2,
        // Attributes, and what they are about.
        b'|' => count()? * 2 + 1,
        _ => 0,
    };
    (0..parts).try_fold(after, |length_so_far, _| Some(length_so_far + length(&bytes[length_so_far..])?))
}

/// A command of these words.
pub(super) fn command(words: &[&str]) -> String {
    let words_of = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words_of.collect::<String>())
}

#[test]
fn an_answer_ends_where_its_last_part_does() {
    for answer in [
        "+OK\r\n",
        "$3\r\na\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n:1\r\n$0\r\n\r\n",
        "%1\r\n+a\r\n~1\r\n,1.5\r\n",
        "|1\r\n+a\r\n:1\r\n_\r\n",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$0\r\n\r\n",
    ] {
        let more = format!("{answer}+more");
        assert_eq!(length(more.as_bytes()), Some(answer.len()), "{answer:?}");
        for cut in 0..answer.len() {
            assert_eq!(length(&answer.as_bytes()[..cut]), None, "{:?}", &answer[..cut]);
        }
    }
}
