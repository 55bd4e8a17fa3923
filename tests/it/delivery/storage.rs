//! Where a spool may lie: a folder, a disk that is small, and one that loses what was not synced.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A place for a spool.
pub(crate) struct Storage {
    folder: TempDir,
    /// What is mounted over `folder/disk`, and is taken away with it.
    mounted: bool,
}

impl Storage {
    pub(crate) fn folder() -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("disk")).expect("made");
        Self { folder, mounted: false }
    }

    /// A file system in memory of so many octets; `None`, said so, without root.
    pub(crate) fn small(octets: u64) -> Option<Self> {
        let size = format!("size={octets}");
        Self::folder().mount(&["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// A file system in memory that has no name to give any more: no file and no folder can be made in it,
    /// until it is freed. `None`, said so, without root.
    pub(crate) fn without_names() -> Option<Self> {
        let storage = Self::folder().mount(&["-t", "tmpfs", "-o", "nr_inodes=64", "tmpfs"])?;
        let full =
            (0..64).any(|n| std::fs::File::create(storage.path().join(format!("{n}"))).is_err());
        assert!(full, "64 names are all that there are");
        Some(storage)
    }

    /// Gives them back.
    pub(crate) fn free_names(&self) {
        (0..64).for_each(|n| drop(std::fs::remove_file(self.path().join(format!("{n}")))));
    }

    /// A file system in an image of so many octets: what the image holds is what was synced. `None`,
    /// said so, where no such thing can be mounted.
    pub(crate) fn that_loses_power(octets: u64) -> Option<Self> {
        let storage = Self::folder();
        let image = storage.image();
        let file = std::fs::File::create(&image).expect("made");
        file.set_len(octets).expect("a hole takes no room");
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no mkfs.ext4 on this machine");
            return None;
        }
        // What nobody syncs stays in memory for longer than any test takes.
        let image = image.to_str().expect("text").to_owned();
        storage.mount(&["-o", "loop,commit=300", &image])
    }

    fn mount(mut self, how: &[&str]) -> Option<Self> {
        let mounted = Command::new("mount").args(how).arg(self.path()).output();
        self.mounted = mounted.as_ref().is_ok_and(|output| output.status.success());
        if !self.mounted {
            eprintln!("SKIPPED: cannot mount {how:?}: {mounted:?}");
        }
        self.mounted.then_some(self)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes all the room that there is.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.path().join("ballast")).expect("made");
        let chunk = vec![1; 64 << 10];
        while ballast.write_all(&chunk).is_ok() {}
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("there");
    }

    /// Copies what was synced until now.
    pub(crate) fn copy_synced(&self) {
        let (from, to) = (self.image(), self.image().with_extension("synced"));
        let copied = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status();
        assert!(copied.expect("cp").success());
    }

    /// Puts that copy in the place of what is there: as after a power loss.
    pub(crate) fn lose_power(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status().expect("umount");
        assert!(unmounted.success(), "nobody uses it");
        self.mounted = false;
        let image = self.image().with_extension("synced");
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(image).arg(self.path());
        assert!(mount.status().expect("mount").success(), "the file system mends itself");
        self.mounted = true;
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = Command::new("umount").arg(self.path()).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("cannot unmount {}", self.path().display());
            }
        }
    }
}
