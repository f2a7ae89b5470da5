package config

import (
	"encoding/json"
	"strings"
)

// Schema returns the JSON Schema (draft 2020-12) of a configuration file, for editors. It checks
// less than Check: of the rules for texts it has only a pattern.
func Schema() []byte {
	root := newSchemaSection()
	ceiling := newSchemaSection()
	ceiling["description"] = "what nothing can exceed; in " + etcFile + " only"
	floor := newSchemaSection()
	floor["description"] = "what nothing can go below; in " + etcFile + " only"
	for i := range settings {
		s := &settings[i]
		root.add(s.key, s.schema())
		if s.hasCeiling() {
			ceiling.add(s.key, s.strictSchema())
		}
		if s.floor {
			floor.add(s.key, s.numberSchema())
		}
	}
	root.add("ceiling", ceiling)
	root.add("floor", floor)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Configuration of py3run"

	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // it holds only maps, texts and numbers
	}
	return append(text, '\n')
}

type schema map[string]any

func newSchemaSection() schema {
	return schema{"type": "object", "properties": map[string]any{}, "additionalProperties": false}
}

// add places a schema at a dotted key, and makes the sections above it.
func (s schema) add(key string, sub schema) {
	properties := s["properties"].(map[string]any)
	name, rest, nested := strings.Cut(key, ".")
	if !nested {
		properties[name] = sub
		return
	}
	if properties[name] == nil {
		properties[name] = newSchemaSection()
	}
	properties[name].(schema).add(rest, sub)
}

func (s *setting) schema() schema {
	sub := s.numberSchema()
	c := Default()
	sub["default"] = s.get(&c)
	if list, ok := sub["default"].([]string); ok && list == nil {
		sub["default"] = []string{} // not null
	}
	sub["description"] = s.comment()
	return sub
}

// numberSchema is strictSchema with the 0 of numbers that can have no limit.
func (s *setting) numberSchema() schema {
	sub := s.strictSchema()
	switch s.fallback.(type) {
	case float64, int:
		if !s.noZero {
			sub = schema{"anyOf": []schema{{"const": 0}, sub}}
		}
	}
	return sub
}

// strictSchema is the schema of a ceiling: without the 0 that means no limit.
func (s *setting) strictSchema() schema {
	switch s.fallback.(type) {
	case float64:
		return schema{"type": "number", "minimum": s.min, "maximum": s.max}
	case int:
		return schema{"type": "integer", "minimum": s.min, "maximum": s.max}
	case bool:
		return schema{"type": "boolean"}
	case []string:
		return schema{"type": "array", "items": s.textSchema()}
	case reasons:
		return schema{
			"type":                 "object",
			"propertyNames":        s.textSchema(),
			"additionalProperties": schema{"type": "string"},
		}
	}
	return s.textSchema()
}

func (s *setting) textSchema() schema {
	switch {
	case s.onTrue != "" || s.onFalse != "":
		var values []any
		if s.onTrue != "" {
			values = append(values, true)
		}
		if s.onFalse != "" {
			values = append(values, false)
		}
		for _, choice := range s.choices {
			values = append(values, choice)
		}
		return schema{"enum": values}
	case s.choices != nil:
		return schema{"enum": s.choices}
	case s.rule != nil:
		return schema{"type": "string", "pattern": s.rule.pattern}
	}
	return schema{"type": "string"}
}
