package expr

import (
	"strings"
	"testing"

	"github.com/belfryhq/belfry/internal/words"
)

const ticketSchema = `{"type":"object","properties":{
	"state":{"title":"Status","titles":{"de":"Zustand"},"oneOf":[{"const":"open","title":"Open","titles":{"de":"Offen","es":"Abierto"}},{"const":"done","title":"Closed"}]},
	"priority":{"enum":[1,2],"enumNames":["low","high"]},
	"place":{"properties":{"city":{"title":"City"}}},
	"tags":{"title":"Tags","items":{"oneOf":[{"const":"x","title":"External"}]}}}}`

// feature: S3-6 saved filters read in the subscriber's language, with labels of
// fields and values, and negated as they mean
func TestReadableInAllLanguages(t *testing.T) {
	for filter, want := range map[string]map[string]string{
		`event.data.state == 'open' && !(event.data.priority == 2)`: {
			"en": `Status is Open and priority is not high`, "es": `Status es Abierto y priority no es high`,
			"fr": `Status est Open et priority n’est pas high`, "de": `Zustand ist Offen und priority ist nicht high`},
		`!(event.data.state in ['open', 'done'] || event.actor == 'user/8')`: {
			"en": `Status is none of Open, Closed and the actor is not "user/8"`, "es": `Status no es ninguno de Abierto, Closed y el autor no es "user/8"`,
			"fr": `Status n’est aucun de Open, Closed et l’auteur n’est pas "user/8"`, "de": `Zustand ist keines von Offen, Closed und der Handelnde ist nicht "user/8"`},
		`!('x' in event.data.tags) && event.data.place.city.startsWith('S')`: {
			"en": `Tags does not contain External and City begins with "S"`, "es": `Tags no contiene External y City empieza por "S"`,
			"fr": `Tags ne contient pas External et City commence par "S"`, "de": `Tags enthält nicht External und City beginnt mit "S"`},
		`!(event.data.n < 3) || object.hidden || 'course/41' in ancestors`: {
			"en": `n is at least 3 or the object is hidden or it happened within "course/41"`, "es": `n es al menos 3 o el objeto está oculto o ocurrió dentro de "course/41"`,
			"fr": `n est au moins 3 ou l’objet est caché ou cela s’est passé dans "course/41"`, "de": `n ist mindestens 3 oder das Objekt ist verborgen oder es geschah innerhalb von "course/41"`},
		`event.record != false && size(event.data.list) > 2 && has(event.data.x)`: {
			"en": `the record is still there and the size of list is more than 2 and x is given`, "es": `el registro aún existe y el tamaño de list es mayor que 2 y x está indicado`,
			"fr": `l’enregistrement existe encore et la taille de list est supérieur à 2 et x est indiqué`, "de": `der Datensatz ist noch da und die Größe von list ist größer als 2 und x ist angegeben`},
	} {
		for language, text := range want {
			got, err := Readable(filter, words.For(language), LabelsOf([]byte(ticketSchema), language))
			if err != nil || got != text {
				t.Errorf("%s in %s:\n got %s\nwant %s (%v)", filter, language, got, text, err)
			}
		}
	}
}

// A schema that is nonsense, endless or huge has few labels or none.
func TestLabelsAreBounded(t *testing.T) {
	deep := strings.Repeat(`{"properties":{"a":`, 50) + `{"title":"x"}` + strings.Repeat(`}}`, 50)
	for _, schema := range []string{``, `7`, `{"properties":7}`, `{"properties":{"a":{"oneOf":7}}}`, deep} {
		if got := LabelsOf([]byte(schema)); len(got) != 0 {
			t.Errorf("%.40s has labels: %v", schema, got)
		}
	}
}
