package render

import (
	"html/template"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/words"
)

// The frames that are filled are what html/template makes of the layout, whatever
// the values are and whichever of them there are.
func TestPageIsAsTheLayoutMakesIt(t *testing.T) {
	text := rapid.OneOf(
		rapid.Just(""),
		rapid.String(),
		rapid.StringMatching(`[<>"'&+/\\= a-z\x00]{1,12}`),
		rapid.SampledFrom([]string{"zqv00vqz", "zqv01vqz<b>", "</title><script>alert(1)</script>", `" onclick="x`, "{{.Title}}", "a\xffb", "C++ & C", "été"}),
	)
	url := rapid.OneOf(
		rapid.Just(""),
		rapid.StringMatching(`https?://[a-z]{1,5}(:[0-9]{2})?(/[-A-Za-z0-9._~%/:?#=&+,;@ '"()<>]{0,30})?`),
		rapid.StringMatching(`[a-z:/%. ]{1,10}`),
		rapid.SampledFrom([]string{"javascript:alert(1)", "https://a.example/%zz", "https://a.example/%2f%", "http://a/b c", "https://ä.example/ü", `https://a/"><script>`, "data:text/html,x", "zqv02vqz", "//b.example/"}),
	)
	rapid.Check(t, func(r *rapid.T) {
		lang := rapid.SampledFrom([]string{"en", "de-CH", "pt-BR", "es", "", `x" y`, "zqv00vqz", "zqv05vqz"}).Draw(r, "lang")
		p := page{Lang: lang, Title: text.Draw(r, "title"), Body: template.HTML("<p>" + text.Draw(r, "body") + "</p>"), say: words.For(lang)}
		for i, v := range p.shown() {
			switch v {
			case &p.URLText, &p.Reason, &p.Subscription:
				*v = text.Draw(r, "text")
			default:
				*v = url.Draw(r, "url"+string(rune('0'+i)))
			}
		}
		var want strings.Builder
		if err := layout.Execute(&want, p); err != nil {
			r.Fatal(err)
		}
		for range 2 { // as it is made, and as it is remembered
			if got := p.html(); got != want.String() {
				r.Fatalf("got\n%s\nwant\n%s", got, want.String())
			}
		}
	})
}
