package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/belfryhq/belfry/internal/belfry"
)

// maxSchemas bounds the compiled schemas kept; others are compiled on use.
const maxSchemas = 1000

// schemas are compiled on first use and kept by their own text, so that a
// changed schema is a new one and tenants with one manifest share.
type schemas struct {
	compiled *lru.Cache[[sha256.Size]byte, *compiledSchema]
}

type compiledSchema struct {
	schema *jsonschema.Schema
	err    error
}

func newSchemas() *schemas {
	cache, err := lru.New[[sha256.Size]byte, *compiledSchema](maxSchemas)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &schemas{compiled: cache}
}

// of gives the compiled schema of a type; nil when it has none.
func (s *schemas) of(t *belfry.EventType) *compiledSchema {
	if len(t.Schema) == 0 {
		return nil
	}
	key := sha256.Sum256(t.Schema)
	c, ok := s.compiled.Get(key)
	if !ok {
		c = &compiledSchema{}
		c.schema, c.err = compileSchema(t.Schema)
		s.compiled.Add(key, c)
	}
	return c
}

// check gives the faults of data against the schema, with pointers into the
// event.
func (c *compiledSchema) check(data json.RawMessage) []belfry.Field {
	if c == nil {
		return nil
	}
	if c.err != nil {
		return []belfry.Field{{Pointer: "/type", Message: fmt.Sprintf("has a schema that cannot be used (%v): correct it in the catalogue", c.err)}}
	}
	if len(data) == 0 {
		data = json.RawMessage("null")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return []belfry.Field{{Pointer: "/data", Message: err.Error()}}
	}
	return schemaFaults(c.schema.Validate(value))
}

// noLoader refuses every reference out of the schema: no network, no files.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: a schema must stand on its own", url)
}

// CheckSchema says, in a line, why the data of events cannot be checked against
// a schema.
func CheckSchema(raw json.RawMessage) error {
	_, err := compileSchema(raw)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		if fields := schemaFaults(invalid.Err); len(fields) > 0 {
			at := strings.TrimPrefix(fields[0].Pointer, "/data")
			if at == "" {
				return errors.New(fields[0].Message)
			}
			return fmt.Errorf("%s: %s", at, fields[0].Message)
		}
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

func compileSchema(raw json.RawMessage) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	const name = "belfry:schema"
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

// schemaFaults flattens an error of validation to its leaves.
func schemaFaults(err error) []belfry.Field {
	var invalid *jsonschema.ValidationError
	if err == nil {
		return nil
	}
	if !errors.As(err, &invalid) {
		return []belfry.Field{{Pointer: "/data", Message: err.Error()}}
	}
	var fields []belfry.Field
	english := message.NewPrinter(language.English)
	var walk func(*jsonschema.ValidationError)
	walk = func(v *jsonschema.ValidationError) {
		if len(v.Causes) > 0 {
			for _, cause := range v.Causes {
				walk(cause)
			}
			return
		}
		var at strings.Builder
		at.WriteString("/data")
		for _, token := range v.InstanceLocation {
			at.WriteString("/" + escapePointer(token))
		}
		if len(fields) < maxFields {
			fields = append(fields, belfry.Field{Pointer: at.String(), Message: v.ErrorKind.LocalizedString(english)})
		}
	}
	walk(invalid)
	return fields
}
