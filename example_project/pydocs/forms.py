"""What may be asked, and how much of it."""

from django import forms

from example_project.pydocs.models import Section

#: Characters; a question is a sentence, and OpenAI's models refuse more than some 30,000.
LONGEST = 300


class SearchForm(forms.Form):
    """
    A question, or a section that others should be like, and where to search.

    A missing question is no error here: `nearest()` says what is wrong with a blank one.
    """

    q = forms.CharField(label="Question", max_length=LONGEST, required=False)
    part = forms.ChoiceField(label="Part", choices=[("", "All"), *Section.Part.choices], required=False)
    topic = forms.CharField(label="Topic", max_length=200, required=False)
    like = forms.ModelChoiceField(
        label="Section",
        queryset=Section.objects.all(),
        required=False,
        error_messages={"invalid_choice": "There is no such section."},
    )
    k = forms.IntegerField(label="k", min_value=1, max_value=50, required=False)

    def sentence(self):
        """Return the errors as one line of text."""
        return " ".join(f"{self[name].label}: {error}" for name, errors in self.errors.items() for error in errors)
