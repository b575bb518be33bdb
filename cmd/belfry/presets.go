package main

import (
	"context"
	"errors"

	"github.com/belfryhq/belfry/internal/cli"
)

type presetsCmd struct {
	List   listPresetsCmd  `cmd:"" help:"List presets; --object, what they are at one object."`
	Put    putPresetCmd    `cmd:"" help:"Store a preset out of a file; it is in force at once wherever it is on."`
	On     onPresetCmd     `cmd:"" help:"Switch a preset on at an object."`
	Off    offPresetCmd    `cmd:"" help:"Switch a preset off at an object, or everywhere."`
	Where  wherePresetCmd  `cmd:"" help:"List the objects where a preset is on."`
	Delete deletePresetCmd `cmd:"" help:"Delete a preset that is on nowhere."`
}

type listPresetsCmd struct {
	Object string `short:"o" placeholder:"ID" help:"Those that can be switched on at this object, or are; root = the whole site."`
	User   string `short:"u" placeholder:"ID" help:"Only those that this user may switch there."`
	remote
}

// Run lists presets.
func (l *listPresetsCmd) Run(ctx context.Context, w world) error {
	if l.User != "" && l.Object == "" {
		return usage{errors.New("where? Name an object with --object")}
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.ListPresets(ctx, c, l.out(w), l.Object, l.User)
}

type putPresetCmd struct {
	Name string `arg:"" name:"name" help:"Name of the preset."`
	File string `short:"f" required:"" placeholder:"FILE" help:"JSON of the preset; - for standard input."`
	remote
}

// Run stores a preset.
func (p *putPresetCmd) Run(ctx context.Context, w world) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return cli.PutPreset(ctx, c, p.out(w), p.Name, p.File, w.in)
}

// switching is who switches a preset where.
type switching struct {
	Name string `arg:"" name:"name" help:"Name of the preset."`
	User string `short:"u" placeholder:"ID" help:"For this user, if she administers the object."`
	remote
}

type onPresetCmd struct {
	switching
	Object string `arg:"" name:"object" help:"Id of the object; root = the whole site."`
}

// Run switches a preset on.
func (o *onPresetCmd) Run(ctx context.Context, w world) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	return cli.SwitchPreset(ctx, c, o.out(w), o.Name, o.Object, o.User, true)
}

type offPresetCmd struct {
	switching
	Object     string `arg:"" optional:"" name:"object" help:"Id of the object; root = the whole site."`
	Everywhere bool   `help:"At every object where it is on."`
	Because    string `help:"Why, with --everywhere, for whoever asks."`
}

// Run switches a preset off.
func (o *offPresetCmd) Run(ctx context.Context, w world) error {
	switch {
	case (o.Object == "") != o.Everywhere:
		return usage{errors.New("where? Name an object, or say --everywhere")}
	case o.Everywhere && o.User != "":
		return usage{errors.New("a user switches presets off at one object")}
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	if o.Everywhere {
		return cli.PresetOffEverywhere(ctx, c, o.out(w), o.Name, o.Because)
	}
	return cli.SwitchPreset(ctx, c, o.out(w), o.Name, o.Object, o.User, false)
}

type wherePresetCmd struct {
	Name string `arg:"" name:"name" help:"Name of the preset."`
	remote
}

// Run lists where a preset is on.
func (l *wherePresetCmd) Run(ctx context.Context, w world) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	return cli.PresetPlaces(ctx, c, l.out(w), l.Name)
}

type deletePresetCmd struct {
	Name string `arg:"" name:"name" help:"Name of the preset."`
	remote
}

// Run deletes a preset.
func (d *deletePresetCmd) Run(ctx context.Context, w world) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	return cli.DeletePreset(ctx, c, d.out(w), d.Name)
}
