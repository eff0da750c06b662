//! `cargo xtask kernel`: the media plane's tests on another kernel, in an emulated machine.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{shell, test::Told};

/// What the machine has besides the tests: the shell that begins them, and what they run.
const TOOLS: [&str; 15] = [
    "bash", "cat", "chrt", "ethtool", "ip", "kill", "kmod", "mkdir", "mount", "nsenter", "setpriv",
    "sync", "sysctl", "uname", "unshare",
];

/// Parts of a kernel's modules that networking may ask for.
const MODULES: [&str; 3] = ["kernel/net", "kernel/lib", "kernel/drivers/net"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel: names of packages that apt knows, or .deb files; the image, and its modules
    /// where they are apart. On Debian 12, `linux-image-6.1.0-56-amd64`.
    #[arg(required = true)]
    packages: Vec<String>,
    /// Which tests run, by a part of their path.
    #[arg(long, default_value = "offload::rooted")]
    tests: String,
    /// How long the machine may run. It is emulated: what takes seconds here takes minutes there.
    #[arg(long, default_value_t = 3600)]
    seconds: u32,
}

/// Boots the kernel with `relay-user`'s tests in its memory and nothing else, and tells what they
/// tell. The machine has no network and no disk.
pub(crate) fn kernel(arguments: &Arguments) -> Result<(), String> {
    let place = shell::target()?.join("kernel");
    let unpacked = place.join("unpacked");
    let root = place.join("root");
    for directory in [&unpacked, &root] {
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(at(directory))?;
        }
        fs::create_dir_all(directory).map_err(at(directory))?;
    }
    for package in &arguments.packages {
        let file = downloaded(package, &place)?;
        shell::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(&unpacked))?;
    }
    let image = only(&unpacked.join("boot"), "vmlinuz-")?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let version = name.trim_start_matches("vmlinuz-").to_owned();

    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        fs::create_dir_all(root.join(target)).map_err(at(&root))?;
        std::os::unix::fs::symlink(target, root.join(link)).map_err(at(&root))?;
    }
    for tool in TOOLS {
        let found = shell::output(Command::new("which").arg(tool))
            .ok_or_else(|| format!("{tool} is not installed"))?;
        install(Path::new(found.trim()), &root, tool)?;
    }
    for name in ["modprobe", "depmod"] {
        std::os::unix::fs::symlink("kmod", root.join("usr/bin").join(name)).map_err(at(&root))?;
    }
    install(&tests()?, &root, "tests")?;
    modules(&unpacked, &root, &version)?;
    begin(&root, &arguments.tests)?;

    let memory = place.join("memory.cpio");
    let pack = "find . -print0 | cpio --null --create --format=newc --quiet";
    let file = fs::File::create(&memory).map_err(at(&memory))?;
    shell::run(
        Command::new("sh")
            .args(["-c", pack])
            .current_dir(&root)
            .stdout(file),
    )?;
    let told = boot(&image, &memory, arguments.seconds)?;
    println!(
        "kernel: {version}: {} passed, {} failed",
        told.passed, told.failed
    );
    match told {
        Told {
            failed: 0, passed, ..
        } if passed > 0 => Ok(()),
        Told { failed: 0, .. } => Err("no test ended".into()),
        Told { failures, .. } => Err(format!("tests failed: {}", failures.join(", "))),
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// A package's file, from apt's sources if it is none already.
fn downloaded(package: &str, place: &Path) -> Result<PathBuf, String> {
    if Path::new(package).is_file() {
        return Ok(package.into());
    }
    let place = place.join(package);
    fs::create_dir_all(&place).map_err(at(&place))?;
    if let Ok(there) = only(&place, package) {
        return Ok(there);
    }
    let mut apt = Command::new("apt-get");
    shell::run(apt.args(["download", "-q", package]).current_dir(&place))?;
    only(&place, package)
}

/// The one file of a directory whose name begins so.
fn only(directory: &Path, beginning: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(directory).map_err(at(directory))?;
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths
        .find(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(beginning)
        })
        .ok_or_else(|| format!("{}: nothing begins with {beginning}", directory.display()))
}

/// The media plane's tests, as cargo builds them.
fn tests() -> Result<PathBuf, String> {
    let mut build = shell::cargo();
    build
        .args(["test", "-p", "relay-user", "--lib", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let built = build.output().map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        return Err("the tests were not built".into());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    messages
        .lines()
        .rev()
        .find_map(|line| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            Some(rest.split_once('"')?.0.into())
        })
        .ok_or_else(|| "cargo built no tests".to_owned())
}

/// Puts a program and what it is linked with in its places.
fn install(program: &Path, root: &Path, name: &str) -> Result<(), String> {
    let put = |from: &Path, to: PathBuf| {
        let directory = to.parent().unwrap_or(root);
        fs::create_dir_all(directory).map_err(at(directory))?;
        fs::copy(from, &to).map(drop).map_err(at(from))
    };
    put(program, root.join("usr/bin").join(name))?;
    let linked = shell::output(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        put(
            Path::new(library),
            root.join(library.trim_start_matches('/')),
        )?;
    }
    Ok(())
}

fn modules(unpacked: &Path, root: &Path, version: &str) -> Result<(), String> {
    // Where `/lib` is a link, packages have their files in either.
    let of = |parent: &str| unpacked.join(parent).join("modules").join(version);
    let from = [of("lib"), of("usr/lib")];
    let from = from.iter().find(|directory| directory.exists());
    let from = from.ok_or("the packages have no modules: name those that have, too")?;
    let to = root.join("usr/lib/modules").join(version);
    for part in MODULES {
        let parent = to.join(part);
        let parent = parent.parent().unwrap_or(&to);
        fs::create_dir_all(parent).map_err(at(parent))?;
        if from.join(part).exists() {
            shell::run(
                Command::new("cp")
                    .arg("-r")
                    .arg(from.join(part))
                    .arg(parent),
            )?;
        }
    }
    for list in ["modules.builtin", "modules.order"] {
        fs::copy(from.join(list), to.join(list)).map_err(at(from))?;
    }
    shell::run(Command::new("depmod").arg("-b").arg(root).arg(version))
}

/// Writes what the kernel starts.
fn begin(root: &Path, tests: &str) -> Result<(), String> {
    let path = root.join("init");
    let mut file = fs::File::create(&path).map_err(at(&path))?;
    write!(
        file,
        "#!/bin/bash\n\
         export PATH=/usr/bin HOME=/\n\
         mkdir -p /proc /sys /dev /tmp /run\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         exec < /dev/ttyS0 > /dev/ttyS0 2>&1\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t tmpfs run /run\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         ip link set lo up\n\
         modprobe veth\n\
         tests --color never --test-threads 1 {tests}\n\
         sync\n\
         echo o > /proc/sysrq-trigger\n\
         read -r -t 60\n"
    )
    .map_err(at(&path))?;
    shell::run(Command::new("chmod").arg("+x").arg(&path))
}

/// A program that may run for so long. It stays among the processes that Ctrl-C ends.
fn limited(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", &seconds.to_string(), program]);
    command
}

/// Runs the machine, passing on what it says.
fn boot(image: &Path, memory: &Path, seconds: u32) -> Result<Told, String> {
    let mut command = limited(seconds, "qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", "4G", "-display", "none", "-serial", "stdio"])
        .args(["-monitor", "none", "-no-reboot", "-net", "none"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(memory)
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let failed = |error| format!("qemu-system-x86_64: {error}");
    let mut child = command.spawn().map_err(failed)?;
    let mut told = Told::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{}", line.trim_end());
            told.read(line.trim_end());
        }
    }
    child.wait().map_err(failed)?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_in_the_group_that_a_terminal_interrupts() {
        let group = |stat: &str| {
            let (_, rest) = stat.rsplit_once(')').unwrap();
            rest.split_whitespace().nth(2).unwrap().to_owned()
        };
        let ours = fs::read_to_string("/proc/self/stat").unwrap();
        let its = shell::output(limited(60, "cat").arg("/proc/self/stat")).unwrap();
        assert_eq!(group(&its), group(&ours));
    }
}
