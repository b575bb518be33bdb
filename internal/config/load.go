package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	kmaps "github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Sources are where values come from, later ones winning: the file, the
// environment, the flags.
type Sources struct {
	File    string            // empty = DefaultFile when there is one
	Environ []string          // as os.Environ gives it
	Flags   map[string]string // by key
}

// DefaultFile is read from the working folder when no other is named.
const DefaultFile = "belfry.yaml"

// EnvPrefix begins the names of environment variables.
const EnvPrefix = "BELFRY_"

// clientVariables are read by the commands that talk to a server, not here.
var clientVariables = []string{"BELFRY_SERVER", "BELFRY_KEY", "BELFRY_TENANT", "BELFRY_CONFIG"}

// Load reads and validates a configuration. The error is a *belfry.Error of
// kind Invalid that names every fault with the place it was written at.
func Load(src Sources) (Config, error) {
	c := Default()
	k := koanf.New(".")
	origins := map[string]string{}
	var faults []string
	for _, layer := range []func() (map[string]any, func(string) string, error){src.file, src.environment, src.flags} {
		values, where, err := layer()
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if fault := unknown(key); fault != "" {
				faults = append(faults, where(key)+": "+fault)
				delete(values, key)
				continue
			}
			origins[key] = where(key)
		}
		if err := k.Load(provider(values), nil); err != nil {
			faults = append(faults, err.Error())
		}
	}
	for key, value := range k.All() {
		if fault := decode(&c, key, value); fault != "" {
			faults = append(faults, origins[key]+": "+fault)
			delete(origins, key)
		}
	}
	c.origins = origins
	faults = append(faults, c.faults()...)
	if len(faults) > 0 {
		slices.Sort(faults)
		return Config{}, belfry.Errorf(belfry.Invalid, "the configuration has faults:\n  %s", strings.Join(slices.Compact(faults), "\n  "))
	}
	return c, nil
}

// provider hands flat values to koanf.
type provider map[string]any

// Read nests the values.
func (p provider) Read() (map[string]any, error) {
	return kmaps.Unflatten(p, "."), nil
}

// ReadBytes is not how values come.
func (provider) ReadBytes() ([]byte, error) {
	return nil, errors.New("values are not bytes")
}

func (s Sources) file() (map[string]any, func(string) string, error) {
	name := s.File
	if name == "" {
		name = DefaultFile
	}
	where := func(key string) string { return name + ": " + key }
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && s.File == "" {
		return nil, where, nil
	}
	if err != nil {
		return nil, where, fmt.Errorf("%s: cannot be read: %w", name, err)
	}
	nested, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		return nil, where, fmt.Errorf("%s: is not YAML with keys and values: %w", name, err)
	}
	flat, _ := kmaps.Flatten(nested, nil, ".")
	for key, value := range flat {
		if section, ok := value.(map[string]any); value == nil || ok && len(section) == 0 {
			delete(flat, key) // nothing is said, like in a section whose lines are all comments
		}
	}
	return flat, where, nil
}

func (s Sources) environment() (map[string]any, func(string) string, error) {
	names := map[string]string{}
	provider := env.Provider("\x00", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return s.Environ },
		TransformFunc: func(name, value string) (string, any) {
			if slices.Contains(clientVariables, name) || foreign(name) || value == "" {
				return "", nil
			}
			key := keyOf(name)
			names[key] = name
			return key, value
		},
	})
	values, err := provider.Read()
	return values, func(key string) string { return names[key] }, err
}

// foreign reports whether a variable is what Kubernetes and Docker links set
// for a service that happens to be called belfry.
func foreign(name string) bool {
	rest := strings.TrimPrefix(name, EnvPrefix)
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_")
}

func (s Sources) flags() (map[string]any, func(string) string, error) {
	values := make(map[string]any, len(s.Flags))
	for key, value := range s.Flags {
		values[key] = value
	}
	return values, func(key string) string { return "flag for " + key }, nil
}

// EnvName is the variable that sets a key.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// keyOf is the key a variable sets. Of a channel's variable the part after
// CHANNELS_ up to the next underscore is the channel's name.
func keyOf(name string) string {
	for _, f := range Fields() {
		if EnvName(f.Key) == name {
			return f.Key
		}
	}
	rest := strings.ToLower(strings.TrimPrefix(name, EnvPrefix))
	if channel, ok := strings.CutPrefix(rest, "channels_"); ok {
		if name, setting, ok := strings.Cut(channel, "_"); ok {
			return "channels." + name + "." + setting
		}
	}
	return rest
}

// unknown says what is wrong with the name of a key; empty when it is known.
func unknown(key string) string {
	if parts := strings.Split(key, "."); parts[0] == "channels" && len(parts) == 3 && parts[1] != "" && parts[2] != "" {
		return ""
	}
	var keys, section []string
	for _, f := range Fields() {
		if f.Key == key && key != "channels" {
			return ""
		}
		if strings.HasPrefix(f.Key, key+".") {
			section = append(section, f.Key)
		}
		keys = append(keys, f.Key)
	}
	if key == "channels" || strings.HasPrefix(key, "channels.") || strings.HasPrefix(key, "channels_") {
		return "a channel's settings are written channels.name.setting, like channels.email.url"
	}
	if len(section) > 0 {
		return "is a section: set " + strings.Join(section, " or ")
	}
	// A variable cannot tell a dot from an underscore, and people may not either.
	if near := belfry.Nearest(key, keys); near != "" {
		return "is no setting: did you mean " + near + " (" + EnvName(near) + ")?"
	}
	for _, k := range keys {
		if strings.ReplaceAll(k, ".", "_") == strings.ReplaceAll(key, ".", "_") {
			return "is no setting: did you mean " + k + " (" + EnvName(k) + ")?"
		}
	}
	return "is no setting: docs/configuration.md lists them"
}

// Field describes a key.
type Field struct {
	Key     string // e.g. log.level
	Form    string // what its value looks like
	Help    string
	Default string
	Secret  bool
	index   []int
}

// Fields are all keys in the order of the struct.
func Fields() []Field {
	return fieldsOf(reflect.ValueOf(Default()), "", nil)
}

func fieldsOf(v reflect.Value, under string, index []int) []Field {
	var list []Field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("koanf")
		if key == "" {
			continue
		}
		at := append(slices.Clone(index), i)
		if f.Type.Kind() == reflect.Struct {
			list = append(list, fieldsOf(v.Field(i), under+key+".", at)...)
			continue
		}
		secret := f.Type == reflect.TypeFor[Secret]() || f.Type == reflect.TypeFor[[]Secret]()
		list = append(list, Field{Key: under + key, Form: f.Tag.Get("form"), Help: f.Tag.Get("help"), Default: show(v.Field(i)), Secret: secret, index: at})
	}
	return list
}

// show is a value as it would be written, secrets masked.
func show(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return belfry.FormatSpan(d)
	}
	switch v.Kind() {
	case reflect.Slice:
		parts := make([]string, 0, v.Len())
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i)))
		}
		return strings.Join(parts, ", ")
	case reflect.Map:
		return ""
	}
	return fmt.Sprint(v)
}
