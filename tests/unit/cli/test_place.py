"""Where a stream is, from its frames."""

from tidings.cli.place import Place


def test_a_place_follows_the_frames() -> None:
    place = Place()
    assert place.query() == ""
    place.note('{"type":"$welcome","data":{"log":"a-b_c","cursor":"0:1,1:2"}}')
    assert place.query() == "?cursor=0:1,1:2&log=a-b_c"
    place.note('{"type":"update","at":"1:7","data":{"cursor":"9:9"}}')
    place.note('{"type":"typing","data":1}')
    assert place.query() == "?cursor=0:1,1:7&log=a-b_c"
    place.note('{"type":"$checkpoint","data":{"cursor":"0:5,1:7,2:1"}}')
    assert place.query() == "?cursor=0:5,1:7,2:1&log=a-b_c"
    place.note('{"type":"$resync","data":{"reason":"log_changed","log":"new","cursor":"0:0"}}')
    assert place.query() == "?cursor=0:0&log=new"


def test_what_is_no_frame_says_nothing_of_a_place() -> None:
    place = Place()
    for text in ("", "nonsense", "[]", "1", '{"type":"$welcome","data":1}', '{"at":7}'):
        place.note(text)
    assert place.query() == ""
