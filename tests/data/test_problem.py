from fipo.data.problem import Problem


def test_the_text_of_a_raw_prompt_is_the_prompt():
    assert Problem(id="1", prompt="2+2=", answer="4", source="test").text == "2+2="


def test_the_text_of_a_chat_is_its_contents_line_by_line():
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert Problem(id="1", prompt=prompt, answer="4", source="test").text == "Be brief.\n2+2?"
