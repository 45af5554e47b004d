"""No pages: a module of tests that wants some names itself in pytest.mark.urls()."""

urlpatterns = []
