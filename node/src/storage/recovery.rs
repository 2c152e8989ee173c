//! What a data directory means after a failure: the state that its records add up to, what of it is lost, or the reason to
//! refuse it. It only reads. What it finds torn or lost, [`super::open`] repairs; what it finds, [`crate::inspect`] prints.
//!
//! | what recovery sees | what it says |
//! |---|---|
//! | records, then zeros or the end of the file, at or beyond what the superblock says was durable | sound |
//! | a gap in the newest segment, in the last batch that was written, beyond what was durable | torn tail: the batch was never acknowledged as a whole; cut it off; sound |
//! | the log ends, torn or not, before what the superblock says was durable | tail lost: neither the last entry nor the vote is known |
//! | a record of before the log's base, unreadable | nothing is lost; sound |
//! | an entry whose header reads and whose payload does not | that entry is lost; the last entry is known, so the node may vote, not lead |
//! | records missing that later ones follow | what they may have been is lost; the last entry is known if a later record tells |
//! | … and a later vote, checkpoint or the superblock tells term and vote | they are used |
//! | … and nothing does | the vote is not known |
//! | records or a first checkpoint missing that may have held the newest mark of no snapshot | it said whom this node counts: as if the vote were not known, whatever tells it |
//! | a segment missing, or with a bad header | as records missing; a snapshot that stands for them makes up for it |
//! | the snapshot of the newest mark missing or bad | an older one and the log after it, if both are there; otherwise all is lost but the last entry and the vote |
//! | no superblock, or none of its slots readable, beside a log; a superblock beside no log | refuse: what was durable cannot be known |
//! | records that contradict each other though their checksums hold; another cluster, node, directory or format version | refuse |
//!
//! How much a gap can have held is known from lsns: `n` records can have changed at most so many places of the log.

use std::io;
use std::path::{Path, PathBuf};

use crate::raft::types::{
    HardState, Incarnation, Index, LogId, Lsn, NUMBER_MAX, Record, Recovering, SnapshotMark,
};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::disk::Disk;
use crate::storage::record::{self, BadFrame, Content, Kind};
use crate::storage::segment::{self, Header, Piece};
use crate::storage::slots::{Slot, Slots};
use crate::storage::superblock::{self, Superblock, SuperblockFile};
use crate::storage::{Identity, StorageError};

/// A segment file as it was read.
#[derive(Debug)]
pub struct SegmentFile {
    /// Its path.
    pub path: PathBuf,
    /// The sequence in its name.
    pub sequence: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its header, if that is whole.
    pub header: Option<Header>,
    /// Its records and gaps, if it has a header of our version.
    pub pieces: Vec<Piece>,
}

/// The files of a log, as they were read.
#[derive(Debug)]
pub struct Files {
    /// The data directory.
    pub dir: PathBuf,
    /// The bytes of the superblock; `None` if there is no such file.
    pub superblock: Option<Vec<u8>>,
    /// The segments, oldest first.
    pub segments: Vec<SegmentFile>,
}

/// Where the log ends, in the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub header: Header,
    /// Length of its file in bytes.
    pub file_bytes: u64,
    /// Where the next record goes.
    pub end: u64,
    /// There is something after `end` which must go before anything may be appended.
    pub torn: bool,
    /// From here on nothing proves that the bytes were ever synced.
    pub unproven: u64,
}

/// A segment that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its sequence.
    pub sequence: u64,
    /// The highest index of an entry in it, 0 if there is none.
    pub max_index: Index,
}

/// What the records of a directory add up to.
#[derive(Debug)]
pub struct Replay {
    /// The superblock, if one of its slots is whole.
    pub superblock: Option<Superblock>,
    /// Term and vote, as far as they are known.
    pub hard_state: HardState,
    /// Whether they are the last for sure.
    pub vote_known: bool,
    /// The latest snapshot mark.
    pub mark: Option<SnapshotMark>,
    /// No snapshot mark has a higher lsn.
    pub mark_lsn: Lsn,
    /// The log, from the entry after the mark's `base`.
    pub slots: Slots,
    /// The last entry that the log is known to have had.
    pub last: LogId,
    /// Whether it was the last for sure.
    pub last_known: bool,
    /// The restriction that an earlier start made durable.
    pub recovering: Option<Recovering>,
    /// The latest `Boot` that is known of, 0 if there is none.
    pub incarnation: Incarnation,
    /// The last record that is known of, readable or not, 0 if there is none.
    pub last_lsn: Lsn,
    /// Each segment, oldest first.
    pub extents: Vec<Extent>,
    /// Where the log ends; `None` if no segment may take records.
    pub tail: Option<Tail>,
    /// The newest segment has a mark that is not in its checkpoint, or a hole for which the superblock makes up: the next record
    /// goes into another segment.
    pub marked: bool,
    /// What is torn or damaged and costs nothing, one sentence each.
    pub notes: Vec<String>,
    /// What is damaged or missing.
    pub faults: Vec<StorageError>,
    /// Why the directory must be refused. The rest is then the state up to that point.
    pub damage: Option<StorageError>,
    /// The first whole header.
    first: Option<Header>,
    /// Records that are missing right before the next one, for what the log is.
    hole: u64,
    /// Records are missing since the last checkpoint.
    doubt: bool,
    /// Records that the newest segment may have held, of which nothing can be read.
    unread: u64,
    /// No later mark than `mark` is missing.
    mark_known: bool,
    /// A gap at the end of a segment: whether anything is missing there, the next one says.
    gap: Option<StorageError>,
}

/// Reads the superblock and every segment of `dir`.
///
/// # Errors
/// Those of the operating system, with the path.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Files, StorageError> {
    let names = disk.list(dir).map_err(StorageError::io("list", dir))?;
    // Before the segments: beside a node that is at work, it is then behind the log and not ahead of it.
    let path = SuperblockFile::path(dir);
    let superblock = match names.iter().any(|name| name == superblock::FILE_NAME) {
        true => Some(disk.read(&path).map_err(StorageError::io("read", &path))?),
        false => None,
    };
    let mut segments = Vec::new();
    for name in names {
        let Some(sequence) = segment::parse_file_name(&name) else { continue };
        let path = dir.join(&name);
        let bytes = match disk.read(&path) {
            // Removed since it was listed, by a node that is at work.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(StorageError::io("read", &path))?,
        };
        let header = Header::decode(&bytes);
        let pieces = match &header {
            Some(header) if header.version == segment::VERSION => segment::scan(header, &bytes),
            _ => Vec::new(),
        };
        segments.push(SegmentFile { path, sequence, bytes, header, pieces });
    }
    Ok(Files { dir: dir.to_owned(), superblock, segments })
}

/// Adds up the records of `files`. Whose they should be is checked if `identity` says it.
pub fn replay(files: &Files, identity: Option<&Identity>) -> Replay {
    let mut replay = Replay::empty();
    replay.superblock = files.superblock.as_deref().and_then(Superblock::latest);
    if let Err(damage) = replay.files(files, identity) {
        replay.damage = Some(damage);
    }
    replay
}

impl Replay {
    /// That of a directory without a log.
    pub fn empty() -> Replay {
        Replay {
            superblock: None,
            hard_state: HardState::default(),
            vote_known: true,
            mark: None,
            mark_lsn: 0,
            slots: Slots::default(),
            last: LogId::default(),
            last_known: true,
            recovering: None,
            incarnation: 0,
            last_lsn: 0,
            extents: Vec::new(),
            tail: None,
            marked: false,
            notes: Vec::new(),
            faults: Vec::new(),
            damage: None,
            first: None,
            hole: 0,
            doubt: false,
            unread: 0,
            mark_known: true,
            gap: None,
        }
    }

    /// The restriction that follows: that of an earlier start, and what this one finds lost.
    pub fn restriction(&self) -> Option<Recovering> {
        let lost = Recovering { last: self.last, last_known: self.last_known, vote_known: self.vote_known };
        match (self.recovering, self.lost_anything()) {
            (earlier, false) => earlier,
            (None, true) => Some(lost),
            (Some(earlier), true) => Some(Recovering {
                last: earlier.last.max(lost.last),
                last_known: earlier.last_known && lost.last_known,
                vote_known: earlier.vote_known && lost.vote_known,
            }),
        }
    }

    /// Whether something is lost that no restriction speaks of yet.
    pub fn lost_anything(&self) -> bool {
        !self.last_known || !self.vote_known || self.slots.first_fault().is_some()
    }

    fn hint(&self) -> Lsn {
        self.superblock.map_or(0, |superblock| superblock.durable_lsn)
    }

    fn files(&mut self, files: &Files, identity: Option<&Identity>) -> Result<(), StorageError> {
        for (position, file) in files.segments.iter().enumerate() {
            self.segment(file, position + 1 == files.segments.len(), identity)?;
        }
        self.check_superblock(files, identity)?;
        if !files.segments.is_empty() {
            self.end(files);
        }
        Ok(())
    }

    fn check_superblock(&self, files: &Files, identity: Option<&Identity>) -> Result<(), StorageError> {
        let path = SuperblockFile::path(&files.dir);
        let Some(found) = self.superblock else {
            let detail = match (&files.superblock, files.segments.is_empty()) {
                (None, true) => return Ok(()),
                (None, false) => "it is missing, so that nobody knows how much of the log was durable",
                (Some(_), _) => {
                    "no slot in it is whole, so that nobody knows how much of the log was durable"
                }
            };
            return Err(corrupt(&path, 0, detail.to_owned()));
        };
        check_owner(&path, (found.version, found.identity, found.directory_id), identity, self.first)?;
        if files.segments.is_empty() && found.durable_lsn > 0 {
            let detail = format!("lsn {} was durable, and there is no segment at all", found.durable_lsn);
            return Err(corrupt(&path, 0, detail));
        }
        Ok(())
    }

    fn segment(
        &mut self,
        file: &SegmentFile,
        newest: bool,
        identity: Option<&Identity>,
    ) -> Result<(), StorageError> {
        if let Some(previous) = self.extents.last().filter(|previous| previous.sequence + 1 < file.sequence) {
            let path = file.path.with_file_name(segment::file_name(previous.sequence + 1));
            let detail = format!("the segment is missing, though {} is there", name(file));
            self.faults.push(corrupt(&path, 0, detail));
        }
        // Its checkpoint alone says it.
        self.mark_known &= !self.extents.is_empty();
        self.extents.push(Extent { sequence: file.sequence, max_index: 0 });
        self.marked = false;
        let Some(header) = file.header else {
            self.tail = None;
            self.unread = most_records(file.bytes.len());
            self.faults.push(corrupt(&file.path, 0, "no valid header at the start of a segment".to_owned()));
            return Ok(());
        };
        let owner = (header.version, header.identity, header.directory_id);
        check_owner(&file.path, owner, identity, self.first)?;
        self.first = self.first.or(Some(header));
        self.unread = 0;
        if header.sequence != file.sequence {
            let detail = format!("the header says segment {}, the name {}", header.sequence, file.sequence);
            return Err(corrupt(&file.path, 0, detail));
        }
        let missing = header.first_lsn.checked_sub(self.last_lsn + 1);
        let Some(missing) = missing.filter(|_| header.first_lsn <= NUMBER_MAX) else {
            let detail = format!(
                "the segment starts at lsn {}, but the records before it end at lsn {}",
                header.first_lsn, self.last_lsn
            );
            return Err(corrupt(&file.path, 0, detail));
        };
        self.missing(missing);
        match self.gap.take() {
            Some(gap) if missing > 0 => self.faults.push(gap),
            Some(gap) => self.notes.push(format!("{gap}; no record is missing there")),
            None => {}
        }
        self.last_lsn += missing;
        self.records(file, header, newest)
    }

    fn records(&mut self, file: &SegmentFile, header: Header, newest: bool) -> Result<(), StorageError> {
        let refuse = |offset: u64| move |detail| corrupt(&file.path, offset, detail);
        let start = segment::HEADER_BYTES as u64;
        let file_bytes = file.bytes.len() as u64;
        let mut tail = Tail { header, file_bytes, end: start, torn: false, unproven: 0 };
        let mut usable = true;
        // Where each record ends: a record proves that those up to its `durable_lsn` were synced.
        let mut ends = vec![(header.first_lsn - 1, start)];
        for (position, piece) in file.pieces.iter().enumerate() {
            match piece {
                Piece::Record { offset, frame } => {
                    let content = frame.content().map_err(refuse(*offset))?;
                    let expected = self.last_lsn + u64::from(position > 0 || !is_checkpoint(&content));
                    if frame.lsn != expected || (position > 0 && is_checkpoint(&content)) {
                        let detail = format!("a record with lsn {}, expected lsn {expected}", frame.lsn);
                        return Err(corrupt(&file.path, *offset, detail));
                    }
                    self.apply(content).map_err(refuse(*offset))?;
                    self.last_lsn = frame.lsn;
                    tail.end = offset + frame.encoded_bytes();
                    ends.push((frame.lsn, tail.end));
                    let proven = ends.partition_point(|(lsn, _)| *lsn <= frame.durable_lsn.max(self.hint()));
                    tail.unproven = tail.unproven.max(ends[proven.saturating_sub(1)].1);
                }
                Piece::Gap { offset, bytes, reason } => {
                    let expected = self.last_lsn + 1;
                    let later = file.pieces[position..].iter().filter_map(Piece::frame);
                    let proof = later.clone().find(|frame| frame.durable_lsn >= expected);
                    if newest && position > 0 && proof.is_none() && self.hint() < expected {
                        self.notes.push(format!(
                            "{} has a torn tail at byte {offset}: {reason} ({bytes} bytes, {} later records of the same batch); the log ends at lsn {}",
                            name(file),
                            later.count(),
                            self.last_lsn
                        ));
                        tail.end = *offset;
                        tail.torn = true;
                        break;
                    }
                    let why = match proof {
                        Some(proof) => format!("was durable before lsn {} was written after it", proof.lsn),
                        None if self.hint() >= expected => {
                            format!("was durable, as the superblock says of all up to lsn {}", self.hint())
                        }
                        None => "or zeros, for it is not the newest segment".to_owned(),
                    };
                    let detail = format!("{reason}; expected the record with lsn {expected}, which {why}");
                    let fault = corrupt(&file.path, *offset, detail);
                    self.gap(*reason, later.clone().next().map(|frame| frame.lsn), fault)
                        .map_err(refuse(*offset))?;
                    usable = later.clone().count() > 0;
                    if position == 0 && !usable {
                        // It was durable before anything followed it: what followed is as unreadable as it is.
                        self.unread = most_records(file.bytes.len());
                    }
                }
            }
        }
        if tail.unproven == 0 {
            tail.unproven = tail.end;
        }
        self.tail = usable.then_some(tail);
        Ok(())
    }

    /// Accounts for a gap after which the record `next` stands in the same segment, if any does.
    fn gap(&mut self, reason: BadFrame, next: Option<Lsn>, fault: StorageError) -> Result<(), String> {
        let expected = self.last_lsn + 1;
        let entry =
            |kind: u8| [Kind::Noop, Kind::Command, Kind::Membership].iter().any(|entry| *entry as u8 == kind);
        let faulty = match reason {
            BadFrame::Payload { kind, lsn, index, term }
                if lsn == expected && entry(kind) && index.max(term) <= NUMBER_MAX =>
            {
                Some(LogId { index, term })
            }
            _ => None,
        };
        if let Some(id) = faulty {
            self.place(id.index, Slot::Faulty(id))?;
            self.last_lsn = expected;
        }
        match next {
            Some(next) => {
                let missing = next.saturating_sub(self.last_lsn + 1);
                self.missing(missing);
                self.last_lsn += missing;
                if missing > 0 || faulty.is_some() {
                    self.faults.push(fault);
                } else {
                    self.notes.push(format!("{fault}; no record is missing there"));
                }
            }
            None if faulty.is_some() => self.faults.push(fault),
            None => self.gap = Some(fault),
        }
        Ok(())
    }

    fn missing(&mut self, records: u64) {
        if records > 0 {
            self.hole = self.hole.saturating_add(records);
            self.doubt = true;
            self.vote_known = false;
            self.lose_mark(self.last_lsn + records);
        }
    }

    /// The records up to `last` are missing, which may have held a mark.
    fn lose_mark(&mut self, last: Lsn) {
        let told = self.superblock.filter(|superblock| last <= superblock.durable_lsn);
        self.mark_known &= told.is_some_and(|superblock| superblock.mark_lsn <= self.last_lsn);
    }

    /// What the end of all segments says, beside the superblock.
    fn end(&mut self, files: &Files) {
        let lost = self.hint().saturating_sub(self.last_lsn);
        let lost = if self.unread > 0 { lost.max(1) } else { lost };
        if lost > 0 {
            self.lose_mark(self.last_lsn + lost.max(self.unread));
        }
        if let Some(gap) = self.gap.take() {
            if lost > 0 {
                self.faults.push(gap);
            } else {
                self.notes.push(format!("{gap}; no record is missing there"));
            }
        } else if lost > 0 && self.unread == 0 {
            let path = files.segments.last().map_or(&files.dir, |file| &file.path);
            let detail = format!(
                "the log ends at lsn {}, though the superblock says that all up to lsn {} was durable",
                self.last_lsn,
                self.hint()
            );
            self.faults.push(corrupt(path, self.tail.map_or(0, |tail| tail.end), detail));
        }
        self.last_known = self.hole == 0 && lost == 0;
        self.vote_known &= lost == 0;
        if let Some(superblock) = self.superblock {
            self.incarnation = self.incarnation.max(superblock.incarnation);
            if superblock.durable_lsn == self.last_lsn && lost == 0 {
                // Written after the last record: as good as a checkpoint there. It is not synced with each batch, and a power
                // loss may leave an older one for the next start: what it made up for goes into a checkpoint now.
                self.marked |= self.doubt;
                (self.hard_state, self.vote_known) = (superblock.hard_state, true);
                if self.hole > 0 {
                    self.end_hole_at(superblock.last);
                    self.last_known = true;
                }
            } else if lost > 0 {
                self.last = superblock.last;
                // Whatever was there: no lsn of it is given to another record.
                self.last_lsn = superblock.durable_lsn.max(self.last_lsn + self.unread);
                if superblock.hard_state.term >= self.hard_state.term {
                    self.hard_state = superblock.hard_state;
                }
            }
        }
        match self.slots.last() {
            Some(last) if self.last_known => self.last = last,
            Some(last) => self.last = self.last.max(last),
            None => self.last_known = false,
        }
        self.settle_mark(files);
    }

    /// A mark of no snapshot says whose voice counts here, and that no other was promised to: without it, term and vote say no more
    /// than half. A mark of a snapshot is in the next checkpoint, or the one before it does.
    fn settle_mark(&mut self, files: &Files) {
        if self.mark_known {
            return;
        }
        self.mark_lsn = self.last_lsn;
        if self.mark.as_ref().is_none_or(|mark| mark.last.index == 0) {
            self.vote_known = false;
            let path = files.segments.first().map_or(&files.dir, |file| &file.path);
            let detail =
                "what is missing may have said who the members are, and in which directories".to_owned();
            self.faults.push(corrupt(path, 0, detail));
        }
    }

    /// The log ends at `last`, after a hole in which records are missing.
    fn end_hole_at(&mut self, last: LogId) {
        // One record must have cut the log off before the first place that the others could fill again.
        self.slots.truncate((last.index + 1).saturating_sub(self.hole).min(last.index));
        self.slots.fill(last.index);
        self.settle_last(last);
        self.hole = 0;
    }

    /// The last place of the log is `last`, whatever was taken for it.
    fn settle_last(&mut self, last: LogId) {
        if self.slots.last().is_some_and(|found| found != last) && last.index > self.slots.base().index {
            self.slots.truncate(last.index - 1);
            self.slots.fill(last.index);
        }
        self.slots.name_last(last);
    }

    /// Puts `slot` at `index` of the log.
    fn place(&mut self, index: Index, slot: Slot) -> Result<(), String> {
        let (base, next) = (self.slots.base(), self.slots.last_index() + 1);
        if index <= base.index || (self.hole == 0 && index != next) {
            return Err(format!("an entry with index {index}, expected index {next}"));
        }
        if self.hole > 0 {
            self.slots.truncate(index.saturating_sub(self.hole).min(index - 1));
            self.slots.fill(index - 1);
            self.hole = 0;
        }
        self.slots.push(slot);
        if let Some(extent) = self.extents.last_mut() {
            extent.max_index = extent.max_index.max(index);
        }
        Ok(())
    }

    fn apply(&mut self, content: Content) -> Result<(), String> {
        let (record, clears) = match content {
            Content::Checkpoint(checkpoint) => return self.apply_checkpoint(checkpoint),
            Content::Record { record, clears } => (record, clears),
        };
        let (base, last_index) = (self.slots.base(), self.slots.last_index());
        match record {
            Record::Boot { incarnation } => self.incarnation = incarnation,
            Record::HardState(hard_state) => {
                self.hard_state = hard_state;
                self.vote_known = true;
            }
            Record::Recovering(recovering) => self.recovering = recovering,
            Record::Truncate { last_index: kept } if kept > last_index && self.hole == 0 => {
                return Err(format!(
                    "a truncation after index {kept}, but the log ends at index {last_index}"
                ));
            }
            Record::Truncate { last_index: kept } if kept < base.index => {
                return Err(format!("a truncation after index {kept}, but the log begins after {base}"));
            }
            Record::Truncate { last_index: kept } => {
                if self.hole > 0 {
                    // As where a hole ends: what it held could reach back so far, and no further.
                    self.slots.truncate((kept + 1).saturating_sub(self.hole).min(kept));
                    self.slots.fill(kept);
                    self.hole = 0;
                }
                self.slots.truncate(kept);
            }
            Record::Entry(entry) => self.place(entry.id.index, Slot::Entry(entry))?,
            Record::Snapshot(mark) if mark.base.index < base.index => {
                return Err(format!(
                    "a log that begins after {}, but it began after {base} before",
                    mark.base
                ));
            }
            Record::Snapshot(mark) => {
                let other = self.slots.id(mark.base.index).is_some_and(|id| id != mark.base);
                if !clears && self.hole == 0 && (other || mark.base.index > last_index) {
                    return Err(format!("a log that begins after {}, which it does not hold", mark.base));
                }
                self.slots.rebase(mark.base, clears);
                self.hole = if clears { 0 } else { self.hole };
                self.marked |= mark.last.index > 0;
                self.mark = Some(mark);
                (self.mark_lsn, self.mark_known) = (self.last_lsn + 1, true);
            }
        }
        Ok(())
    }

    fn apply_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        let base = checkpoint.base();
        let last = checkpoint.last;
        let snapshot = |mark: &Option<SnapshotMark>| mark.as_ref().map_or(LogId::default(), |mark| mark.last);
        let same_log = base == self.slots.base() && snapshot(&checkpoint.mark) == snapshot(&self.mark);
        if checkpoint.repaired {
            let faults =
                self.faults.drain(..).map(|fault| format!("{fault}; an earlier start took care of it"));
            self.notes.extend(faults);
            if base.index < self.slots.base().index {
                self.slots = Slots::unknown(base, last.index);
            } else if base != self.slots.base() {
                let other = self.slots.id(base.index).is_some_and(|id| id != base);
                self.slots.rebase(base, other);
            }
            self.slots.truncate(last.index);
            self.slots.fill(last.index);
            self.settle_last(last);
        } else if self.extents.len() == 1 {
            self.slots = Slots::unknown(base, last.index);
            self.settle_last(last);
        } else if !self.doubt {
            let sum = Checkpoint {
                incarnation: self.incarnation,
                hard_state: self.hard_state,
                mark: self.mark.clone(),
                recovering: self.recovering,
                last: self.slots.last().unwrap_or(last),
                repaired: false,
            };
            if sum != checkpoint {
                return Err(format!(
                    "a checkpoint {checkpoint:?}, but the records before it come to {sum:?}"
                ));
            }
        } else if same_log && self.hole > 0 {
            self.end_hole_at(last);
        } else if same_log {
            self.slots.truncate(last.index);
            self.slots.fill(last.index);
            self.settle_last(last);
        } else if self.hole == 1 && base.index >= self.slots.base().index {
            // The one missing record is the mark.
            self.slots.rebase(base, self.slots.last() != Some(last));
            self.settle_last(last);
        } else {
            self.slots = Slots::unknown(base, last.index);
            self.settle_last(last);
        }
        (self.hole, self.doubt, self.vote_known) = (0, false, true);
        self.incarnation = checkpoint.incarnation;
        self.hard_state = checkpoint.hard_state;
        self.recovering = checkpoint.recovering;
        self.mark = checkpoint.mark;
        if !self.mark_known {
            // Wherever it was.
            (self.mark_lsn, self.mark_known) = (self.last_lsn, true);
        }
        Ok(())
    }
}

/// How many records so many bytes can hold.
fn most_records(bytes: usize) -> u64 {
    (bytes / record::HEADER_BYTES) as u64
}

fn is_checkpoint(content: &Content) -> bool {
    matches!(content, Content::Checkpoint(_))
}

/// Checks version, owner and directory of a file, the latter against `first`, that of another.
fn check_owner(
    file: &Path,
    (version, identity, directory_id): (u32, Identity, u64),
    expected: Option<&Identity>,
    first: Option<Header>,
) -> Result<(), StorageError> {
    let file = file.to_owned();
    if version != segment::VERSION {
        return Err(StorageError::Version { file, found: version, supported: segment::VERSION });
    }
    if let Some(expected) = expected.copied().or(first.map(|header| header.identity))
        && expected != identity
    {
        let (found, expected) = (owner(&identity), owner(&expected));
        return Err(StorageError::Foreign { file, found, expected });
    }
    if let Some(first) = first
        && first.directory_id != directory_id
    {
        let found = format!("directory {directory_id:016x}");
        let expected = format!("directory {:016x} as the segments before it", first.directory_id);
        return Err(StorageError::Foreign { file, found, expected });
    }
    Ok(())
}

fn corrupt(file: &Path, offset: u64, detail: String) -> StorageError {
    StorageError::Corrupt { file: file.to_owned(), offset, detail }
}

fn owner(identity: &Identity) -> String {
    format!("node {} of cluster {:016x}", identity.node_id, identity.cluster_id)
}

fn name(file: &SegmentFile) -> String {
    segment::file_name(file.sequence)
}
